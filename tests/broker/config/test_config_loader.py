"""fairlead.yaml, the environment and the defaults."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import REGISTRY
from broker.config import check_config, load_config
from broker.config.model import SECTIONS
from schemas.errors import ConfigError
from schemas.quantities import parse_duration, parse_keep, parse_share, parse_size

Write = Callable[..., Path]

SOUND = """\
version: 1
site: {path: Acme/Lyon}
sources:
  plc1: {kind: modbus, host: 10.0.0.5, byte_order: CDAB}
"""


def test_the_fewest_lines_that_run(write_config: Write, tmp_path: Path) -> None:
    """Version, site and one source are enough; every section has its defaults and paths are absolute."""
    config = load_config(write_config(), {})
    assert config.site.name == "lyon"
    assert config.data_dir == tmp_path / "var"
    assert config.base_dir == tmp_path
    assert config.kinds == {"plc1": "modbus"}
    assert isinstance(config.sources["plc1"], REGISTRY["modbus"].options)
    for name, model in SECTIONS.items():
        assert getattr(config, name) == model()


def test_the_environment_is_stronger_than_the_file(write_config: Write, tmp_path: Path) -> None:
    """Options of every depth can be given, from a file too, and foreign names are left alone."""
    secret = tmp_path / "listen"
    secret.write_text("127.0.0.1:9000\n", encoding="utf-8")
    config = load_config(
        write_config(SOUND + "log: {level: error}\n"),
        {
            "FAIRLEAD_LOG__LEVEL": "debug",
            "FAIRLEAD_SOURCES__PLC1__PORT": "1502",
            "FAIRLEAD_SOURCES__PLC1__LIMITS": "{registers: 60}",
            "FAIRLEAD_DATA_DIR": str(tmp_path / "elsewhere"),
            "FAIRLEAD_API__LISTEN_FILE": str(secret),
            "FAIRLEAD_CONFIG": "x",
            "FAIRLEAD_SHARED": "y",
            "HOME": "/",
        },
    )
    assert config.log.level == "debug"
    assert config.sources["plc1"].model_dump()["port"] == 1502
    assert config.sources["plc1"].model_dump()["limits"]["registers"] == 60
    assert config.data_dir == tmp_path / "elsewhere"
    assert config.api.port == 9000


@pytest.mark.parametrize(
    ("environ", "code"),
    [
        ({"FAIRLEAD_STOR__URL": "x"}, "unknown_key"),
        ({"FAIRLEAD_STORE__ULR": "x"}, "unknown_key"),
        ({"FAIRLEAD_JOURNAL__KEEP": "5m"}, "bad_quantity"),
        ({"FAIRLEAD_STORE__PASSWORD": "hunter2"}, "literal_secret"),
        ({"FAIRLEAD_STORE__URL_FILE": "/nowhere/at/all"}, "bad_file"),
        ({"FAIRLEAD_VERSION": "2"}, "unsupported_version"),
    ],
)
def test_a_wrong_variable_is_named(write_config: Write, environ: dict[str, str], code: str) -> None:
    """A problem of the environment shows the variable instead of a line, and no secret."""
    problems = check_config(write_config(), environ).problems
    assert [p.code for p in problems] == [code]
    assert problems[0].file == next(iter(environ))
    assert "hunter2" not in str(problems[0])


def test_load_raises_every_problem_at_once(write_config: Write) -> None:
    """ConfigError carries all problems in the order of the file."""
    text = SOUND.replace("host", "hots") + "log: {level: loud}\njournal: {keep: 72}\n"
    with pytest.raises(ConfigError) as error:
        load_config(write_config(text), {})
    codes = [problem.code for problem in error.value.problems]
    assert codes == ["missing_key", "unknown_key", "bad_value", "bad_quantity"]


def test_an_address_beyond_loopback_needs_tls(write_config: Write, tmp_path: Path) -> None:
    """Without certificate it is an error; with files that exist it is not, and files that do not exist are named."""
    listen = SOUND + "api: {listen: '192.0.2.1:8443'%s}\n"
    assert [p.code for p in check_config(write_config(listen % ""), {}).problems] == ["insecure_listen"]
    tls = ", tls: {cert: c.pem, key: k.pem}"
    missing = check_config(write_config(listen % tls), {}).problems
    assert [p.path for p in missing] == ["api.tls.cert", "api.tls.key"]
    (tmp_path / "c.pem").touch()
    (tmp_path / "k.pem").touch()
    assert check_config(write_config(listen % tls), {}).problems == []


def test_the_password_of_the_store_is_found_beside_the_file(write_config: Write, tmp_path: Path) -> None:
    """A relative name starts at fairlead.yaml, not in the data folder."""
    config = load_config(write_config(SOUND + "store: {password: 'file:secrets/db'}\n"), {})
    assert config.store.password == f"file:{tmp_path}/secrets/db"


def test_sections_may_be_empty(write_config: Write) -> None:
    """A section whose lines are all commented out has its defaults."""
    assert check_config(write_config(SOUND + "journal:\n"), {}).problems == []


_UNITS = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}


@given(st.integers(0, 10**6), st.sampled_from(sorted(_UNITS)), st.sampled_from(["", " "]))
def test_durations_are_number_times_unit(number: int, unit: str, between: str) -> None:
    """Every unit scales as it should, with or without a space."""
    assert parse_duration(f"{number}{between}{unit}") == pytest.approx(number * _UNITS[unit])
    assert parse_keep(f"{number}{unit}") == pytest.approx(number * _UNITS[unit])


@given(st.one_of(st.integers(), st.floats(), st.booleans(), st.none(), st.text(max_size=12)))
def test_a_quantity_is_right_or_refused_with_a_reason(value: object) -> None:
    """No input gives a number without a unit, and none raises anything but ValueError."""
    wanted = {parse_duration: r"ms|s|min|h|d", parse_size: r"B|KiB|MiB|GiB", parse_share: "%"}
    for parse, units in wanted.items():
        if re.fullmatch(rf"\s*[0-9]+(\.[0-9]+)?\s*({units})\s*", str(value)):
            continue
        with pytest.raises(ValueError, match=r"."):
            parse(value)
