"""From the configuration to the file that is loaded: signed, scored, decided; or why not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.models.entries import entries
from broker.models.locate import check_decided, key_of, locate
from broker.models.registry import find_import, trust_of
from broker.scorecard import cards
from broker.store import Reader, Store, engines
from llm.client import Reasoner
from llm.model_file import ModelFile, Served, builtins
from llm.options import ReasonerOptions
from schemas.annotation import model_key
from schemas.errors import Refused, StoreError, WorkerError
from schemas.manifest import parse_reference
from tests.broker.models.card import card
from tests.broker.models.conftest import ADAPTER, Integrator
from tests.broker.models.site import bring, choose, configured, opened

Make = Callable[..., Path]


def scored(config, key: str, *, passed: bool = True) -> None:
    cards.save(config.data_dir, card(key, passed=passed))


def refusal(config, store: Store) -> str:
    with pytest.raises(WorkerError) as error:
        locate(config, store.reader())
    return str(error.value)


def test_a_model_is_in_quarantine_until_it_is_scored(site, medium: Make) -> None:
    """Imported, then refused with the command that scores it; with a card it is found, whatever the card says."""
    config = site("{model: 'registry:plant-7b'}")
    with opened(config) as store:
        row = bring(config, store, medium(family="v3", style="rows", knows={"PU": ("bearing",)}))
        told = refusal(config, store)
        assert (
            "plant-7b@3 is in quarantine until it is scored: run fairlead llm bench --model registry:plant-7b" in told
        )
        (entry,) = [one for one in entries(config, store.reader()) if one.row is not None]
        assert (entry.state, entry.configured, entry.current) == ("quarantined", True, True)

        scored(config, row.main_sha256, passed=False)
        file = locate(config, store.reader())
        assert file is not None
        assert (file.name, file.sha256, file.rung, file.style, file.family) == (
            *("plant-7b@3", row.main_sha256, "mistral", "rows", "v3"),
        )
        assert file.knows == {"PU": ["bearing"]}
        assert file.path.read_bytes().startswith(b"GGUF")
        assert [one.state for one in entries(config, store.reader())][1:] == ["advisory"]
        scored(config, row.main_sha256)
        assert [one.state for one in entries(config, store.reader())][1:] == ["admitted"]


def test_the_last_import_of_a_name_counts_unless_a_version_is_named(
    site, tmp_path: Path, integrator: Integrator
) -> None:
    """Also where the last one was a rollback, which needs its reason."""
    config = site("{model: 'registry:plant-7b'}")
    with opened(config) as store:
        three = integrator.medium(tmp_path / "3")
        two = integrator.medium(tmp_path / "2", version=2, files={"model.gguf": b"GGUF two", "LICENSE": b"x"})
        bring(config, store, three)
        with pytest.raises(Refused, match="version 2 is not above version 3, which was imported already"):
            bring(config, store, two)
        with pytest.raises(Refused, match="version 3 is not above version 3"):
            bring(config, store, integrator.medium(tmp_path / "other3", what="another one"))
        row = bring(config, store, two, rollback="version 3 hangs")
        imported = store.reader().model_imports()

        assert (row.version, row.rollback) == (2, "version 3 hangs")
        assert find_import(imported, parse_reference("registry:plant-7b")).version == 2
        assert find_import(imported, parse_reference("registry:plant-7b@3")).version == 3
        with pytest.raises(Refused, match="has no version 4; imported were: 2, 3"):
            find_import(imported, parse_reference("registry:plant-7b@4"))
        with pytest.raises(Refused, match="no model 'plant' was imported; there are: plant-7b"):
            find_import(imported, parse_reference("registry:plant"))
        actions = [(one.action, one.object_id) for one in store.reader().audit()]
        assert actions == [("model_rolled_back", "registry:plant-7b"), ("model_imported", "registry:plant-7b")]
        assert '"rollback":"version 3 hangs"' in store.reader().audit()[0].detail


def test_a_lost_store_does_not_open_the_way_back(site, tmp_path: Path, integrator: Integrator) -> None:
    """The files of version 3 lie on the shelf, so version 2 is a rollback also where no row says so."""
    config = site("{backend: none}")
    with opened(config) as store:
        bring(config, store, integrator.medium(tmp_path / "3"))
    for path in config.data_dir.glob("store.db*"):
        path.unlink()
    with opened(config) as store:
        assert store.reader().model_imports() == []
        two = integrator.medium(tmp_path / "2", version=2)
        with pytest.raises(Refused, match="version 2 is not above version 3"):
            bring(config, store, two)
        assert bring(config, store, two, rollback="needed").rollback == "needed"


def test_the_same_medium_again_mends_the_files(site, medium: Make) -> None:
    """It is no rollback, and makes no second row; the audit knows."""
    config = site("{backend: none}")
    with opened(config) as store:
        first, second = bring(config, store, medium()), bring(config, store, medium())
        assert first == second
        assert [row.action for row in store.reader().audit()] == ["model_files_restored", "model_imported"]


def test_a_key_that_is_trusted_no_longer_takes_its_models_along(site, medium: Make) -> None:
    """The registry shows it as damaged and says why; control: before, it was found."""
    config = site("{model: 'registry:plant-7b@3'}")
    with opened(config) as store:
        row = bring(config, store, medium())
        scored(config, row.main_sha256)
        assert isinstance(locate(config, store.reader()), ModelFile)
        (trust_of(config).folder / "release.pub").unlink()

        assert "which this site does not trust" in refusal(config, store)
        entry = entries(config, store.reader())[-1]
        assert (entry.state, "does not trust" in entry.problem) == ("damaged", True)


def test_an_adapter_belongs_to_its_weights(site, tmp_path: Path, medium: Make, integrator: Integrator) -> None:
    """It is scored together with them, under a key of its own; with other weights it is refused."""
    config = site("{model: 'registry:plant-7b', adapter: 'registry:pump-lora@3', adapter_scale: 0.5}")
    with opened(config) as store:
        row = bring(config, store, medium())
        bring(config, store, integrator.adapter(tmp_path / "lora", row.main_sha256))
        scored(config, row.main_sha256)
        assert "with adapter pump-lora@3/lora.gguf is in quarantine" in refusal(config, store)
        assert "--adapter registry:pump-lora@3" in refusal(config, store)

        bare = locate(site("{model: 'registry:plant-7b'}"), store.reader())
        assert bare is not None
        adapter = store.reader().model_imports("pump-lora")[0]
        scored_key = model_key(row.main_sha256, adapter.main_sha256, 0.5)
        scored(config, scored_key)
        file = locate(config, store.reader())
        assert file is not None
        assert file.adapter is not None
        assert (file.adapter.name, file.adapter.scale) == ("pump-lora@3/lora.gguf", 0.5)
        assert file.adapter.path.read_bytes() == ADAPTER
        assert key_of(file) == scored_key != key_of(bare)

        other = integrator.adapter(tmp_path / "other", "d" * 64, name="other-lora")
        bring(config, store, other)
        wrong = site("{model: 'registry:plant-7b', adapter: 'registry:other-lora'}")
        assert "was made for weights with sha256 dddddddddddddddd…, not for plant-7b@3" in refusal(wrong, store)
        swapped = site("{model: 'registry:other-lora'}")
        assert "is an adapter: name it in llm.adapter" in refusal(swapped, store)


def test_an_adapter_of_the_registry_is_scored_with_any_model(site, tmp_path: Path, integrator: Integrator) -> None:
    """With the built-in model and with a plain file, too: its own card, or none of the weights alone, is not enough."""
    shipped = builtins()["plant-tiny"].sha256
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    plain = f"{{model: m.gguf, sha256: '{shipped}', adapter: 'registry:pump-lora'}}"
    with opened(site("{backend: none}")) as store:
        for llm in ("{adapter: 'registry:pump-lora'}", plain):
            config = site(llm)
            adapter = bring(config, store, integrator.adapter(tmp_path / "lora", shipped)).main_sha256
            key = model_key(shipped, adapter, 1.0)
            (cards.folder(config.data_dir) / f"{key}.json").unlink(missing_ok=True)
            scored(config, shipped)
            scored(config, adapter)
            told = refusal(config, store)
            assert "with adapter pump-lora@3/lora.gguf is in quarantine until it is scored" in told
            assert f"--model {config.llm.model} --adapter registry:pump-lora" in told
            scored(config, key)
            file = locate(config, store.reader())
            assert isinstance(file, ModelFile)
            assert key_of(file) == key


def test_a_configured_hash_must_be_the_signed_one(site, medium: Make) -> None:
    """Whoever pins a hash beside the registry gets that one or none."""
    config = site(f"{{model: 'registry:plant-7b', sha256: '{'0' * 64}'}}")
    with opened(config) as store:
        bring(config, store, medium())
        assert "configured otherwise than the signed manifest" in refusal(config, store)


def test_the_built_in_model_needs_no_registry(site) -> None:
    """Control: the default is found in an empty store, without keys and cards."""
    config = configured(site("{}").base_dir, "{}")
    with opened(config) as store:
        found = locate(config, store.reader())
        assert found is not None
        assert found.rung == "builtin"
        assert entries(config, store.reader())[0].configured


@pytest.fixture
def unmade(site, tmp_path: Path) -> Iterator[Store]:
    """A store without a table yet: it can be opened, and every read fails."""
    config = site("{}")
    store = Store.open(config.store, config.data_dir, write=True, now_ns=lambda: 1)
    yield store
    store.close()


def test_sql_is_read_only_where_it_has_to_say_something(site, unmade: Store, tmp_path: Path) -> None:
    """The built-in model and a plain file need none; what the registry or a decision has to say can be asked again."""
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    for llm in ("{}", "{model: m.gguf}"):
        assert isinstance(locate(site(llm), unmade.reader()), ModelFile)
    served = "{backend: openai, url: 'http://10.0.0.5:8000/v1', model: m}"
    for llm in ("{model: 'registry:plant-7b'}", "{adapter: 'registry:pump-lora'}", served):
        with pytest.raises(StoreError):
            locate(site(llm), unmade.reader())


async def test_sql_that_cannot_be_read_at_the_start_is_asked_again(site, unmade: Store, eventually) -> None:
    """The start waits for it and says so; then the registry's own answer counts."""
    config = site("{model: 'registry:plant-7b'}")
    one = Reasoner(
        config.llm, base_dir=config.base_dir, now_ns=lambda: 1, locate=lambda: locate(config, unmade.reader())
    )
    starting = asyncio.create_task(one.start())
    await eventually(lambda: "tried again" in one.state.reason)
    assert not starting.done()
    await asyncio.to_thread(unmade.upgrade)
    await starting
    assert (one.state.status, "no model 'plant-7b' was imported" in one.state.reason) == ("off", True)
    await one.close()


def test_a_read_that_took_too_long_is_asked_again(site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader refuses what takes longer than its limit: that says nothing of the model."""
    config = site("{model: 'registry:plant-7b'}")
    with opened(config) as store:
        monkeypatch.setattr(engines, "STEPS", 1)  # the time is looked at after each step, and is up at once
        with pytest.raises(StoreError, match="took longer"):
            locate(config, Reader(store.reader()._engine, -1.0, 10))


def test_a_plain_file_is_shown_for_what_it_is(site, tmp_path: Path) -> None:
    """Unsigned, of unknown licence; without a card advisory, and told where it is gone."""
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    config = site(f"{{model: m.gguf, sha256: '{'e' * 64}'}}")
    with opened(config) as store:
        plain = entries(config, store.reader())[-1]
        assert (plain.name, plain.state, plain.licence, plain.configured) == ("m.gguf", "advisory", "not known", True)
        scored(config, "e" * 64)
        assert entries(config, store.reader())[-1].state == "admitted"
        (tmp_path / "m.gguf").unlink()
        assert entries(config, store.reader())[-1].problem == "there is no file m.gguf"


def test_a_model_is_shown_for_what_it_is(site) -> None:
    """On its rung, without a file that could be signed or scored."""
    config = site("{backend: openai, url: 'http://10.0.0.5:8000/v1', model: mistral-large}")
    with opened(config) as store:
        served = entries(config, store.reader())[-1]
        assert (served.name, served.rung, served.state) == ("mistral-large", "site_server", "advisory")
        assert "evidence would leave this machine" in refusal(config, store)
        choose(store, "mistral-large", "site_server")
        assert locate(config, store.reader()) == Served("site_server")
        choose(store, "mistral-large", "air_gapped")
        assert locate(config, store.reader()) == Served("air_gapped")
        assert entries(config, store.reader())[-1].rung == "air_gapped"


@pytest.mark.parametrize("rung", ["site_server", "air_gapped", "frontier"])
def test_where_evidence_leaves_the_machine_a_decision_is_needed(site, rung) -> None:
    """None, one for another model, and one on a rung of this machine are not enough; the newest one counts."""
    config = site("{backend: none}")
    remote = ReasonerOptions(backend="openai", url="http://10.0.0.5:8000/v1", model="mistral-large")
    with opened(config) as store:
        reader = store.reader()

        def refused() -> None:
            with pytest.raises(Refused, match="evidence would leave this machine") as error:
                check_decided(remote, reader.model_decisions())
            assert "fairlead model decide mistral-large --use annotation" in str(error.value)

        refused()
        choose(store, "another-model", rung)
        refused()
        choose(store, "mistral-large", "mistral")
        refused()
        choose(store, "mistral-large", rung)
        chosen = check_decided(remote, reader.model_decisions())
        assert chosen is not None
        assert chosen.rung == rung
        choose(store, "builtin:plant-tiny", "builtin")
        refused()
        assert check_decided(ReasonerOptions(), reader.model_decisions()) is not None
        assert check_decided(ReasonerOptions(model="x.gguf"), reader.model_decisions()) is None
