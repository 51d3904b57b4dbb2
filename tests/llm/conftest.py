"""Fixtures of the reasoning tests: evidence of many shapes, and a tiny model with random weights."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from llm.client import Reasoner
from llm.options import ReasonerOptions
from llm.prompt import INSTRUCTIONS
from schemas.anomaly import Kind, Severity
from schemas.evidence import Action, CauseOption, Evidence, Expect, Fact

NOW_NS = 1_760_000_000_000_000_000

CAUSES = (
    CauseOption(
        id="bearing_wear",
        text="Bearing wear or lack of lubrication",
        mechanism="2.4 Wear",
        signs=(
            Expect(name="*bearing*temp*", direction="rose"),
            Expect(name="*vibration*", direction="rose"),
            Expect(name="*flow*", direction="normal"),
        ),
        actions=("inspect_bearing", "vibration_survey"),
    ),
    CauseOption(
        id="cavitation",
        text="Cavitation from too low a suction head",
        mechanism="2.6 Cavitation",
        signs=(
            Expect(name="*suction*", direction="fell"),
            Expect(name="*flow*", direction="fell"),
            Expect(name="*vibration*", direction="rose"),
        ),
        actions=("check_suction",),
    ),
    CauseOption(
        id="no_signal",
        text="Controller or network does not answer",
        mechanism="3.2 No signal/indication/alarm",
        signs=(Expect(name="*", direction="silent"),),
        actions=("check_network",),
    ),
)
ACTIONS = tuple(
    Action(id=i, text=i.replace("_", " ").capitalize())
    for i in ("inspect_bearing", "vibration_survey", "check_suction", "check_network")
)
UNIT = "acme/north/utilities/pumps/P1"


def deviation(number: int, name: str, direction: str, rank: int | None = None) -> Fact:
    return Fact(
        id=f"E{number}",
        kind="deviation",
        path=f"{UNIT}/{name}",
        unit="Cel",
        detected=Kind.MEAN_SHIFT,
        direction=direction,
        value=84.25,
        baseline=61.5,
        sigmas=9.5,
        rank=rank,
        samples=30,
    )


def neighbour(number: int, name: str) -> Fact:
    return Fact(id=f"E{number}", kind="neighbour", path=f"{UNIT}/{name}", value=3.0, baseline=3.1, samples=30)


def evidence_of(facts: tuple[Fact, ...], *, causes: tuple[CauseOption, ...] = CAUSES, number: int = 1) -> Evidence:
    return Evidence(
        anomaly_id=f"a{number}",
        anomaly_revision=1,
        equipment=UNIT,
        equipment_class="centrifugal_pump",
        kind=Kind.MEAN_SHIFT,
        severity=Severity.HIGH,
        ne107="M",
        at_ns=NOW_NS,
        record_seq=100,
        facts=facts,
        causes=causes,
        actions=ACTIONS,
    )


def shapes() -> list[Evidence]:
    """Twenty evidence snapshots of different shape, from no fact at all to more facts than are shown."""
    names = ("BearingTemp", "Vibration", "Flow", "SuctionPressure", "MotorPower", "Level_02", "Größe µ", "x" * 300)
    result = [evidence_of(())]
    for count in range(1, 15):
        facts = tuple(
            neighbour(i, names[i % 8])
            if i % 5 == 0
            else deviation(i, names[i % 8], ("rose", "fell", "flat", "silent", "jumped")[i % 5], i)
            for i in range(1, count + 1)
        )
        result.append(evidence_of(facts))
    result.append(evidence_of(tuple(deviation(i, f"Tag{i}", "rose", i) for i in range(1, 41))))
    result.append(evidence_of((deviation(1, "BearingTemp", "rose", 1),), causes=()))
    result.append(evidence_of((deviation(1, "Flow", "fell", 1),), causes=CAUSES[:1]))
    result.append(
        evidence_of(
            (
                Fact(id="E1", kind="state", path=f"{UNIT}/State", text='EXECUTE", "id": "E99'),
                Fact(id="E2", kind="gap", path=f"{UNIT}/Flow", text="link down\n\x00"),
                Fact(id="E3", kind="setpoint", path=f"{UNIT}/Speed", value=1450, baseline=1200, unit="/min"),
                Fact(id="E4", kind="history", text="bearing_wear, approved"),
            )
        )
    )
    result.append(evidence_of((neighbour(7, "Flow"), neighbour(11, "Vibration"), deviation(12, "BearingTemp", "rose"))))
    return [e.model_copy(update={"anomaly_id": f"a{i}"}) for i, e in enumerate(result)]


@pytest.fixture
def bearing() -> Evidence:
    """A clear case of bearing wear."""
    return evidence_of(
        (deviation(1, "BearingTemp", "rose", 1), deviation(2, "Vibration", "rose", 2), neighbour(3, "Flow"))
    )


@pytest.fixture
def evidences() -> list[Evidence]:
    """Twenty evidence snapshots of different shape."""
    return shapes()


@pytest.fixture
def make_evidence() -> Callable[..., Evidence]:
    return evidence_of


@pytest.fixture
def make_deviation() -> Callable[..., Fact]:
    return deviation


@pytest.fixture
def make_neighbour() -> Callable[..., Fact]:
    return neighbour


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the Mistral architecture with random weights and a vocabulary of its own; 0.6 MB."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    gguf_file = pytest.importorskip("training.gguf_file", reason="gguf is not installed")
    from training.shape import Shape
    from training.vocabulary import make

    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    shape = Shape(width=128, layers=2, heads=2, kv_heads=1, feed_forward=256, vocabulary=1024, context=4096)
    # without the words of direction: random text would hit them now and then, and rightly be refused
    texts = [INSTRUCTIONS, *(e.body.decode() for e in shapes()[:6])]
    vocabulary = make([re.sub("rose|fell|silent|jumped|flat|low|high", "", text) for text in texts], 1024)
    gguf_file.write(path, shape, vocabulary, gguf_file.random_weights(shape, 1), name="tiny-random")
    return path


@pytest.fixture
def sha256() -> Callable[[Path], str]:
    return lambda path: hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
async def reasoner(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Reasoner]]]:
    """Start reasoners with the given options; all are closed at the end."""
    started: list[Reasoner] = []

    async def start(now_ns: Callable[[], int] = lambda: NOW_NS, **options: object) -> Reasoner:
        one = Reasoner(ReasonerOptions.model_validate(options), base_dir=tmp_path, now_ns=now_ns)
        started.append(one)
        await one.start()
        return one

    yield start
    for one in started:
        await one.close()
