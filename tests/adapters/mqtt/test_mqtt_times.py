"""Local times in payloads over both changes of the clocks (W9): no minute is lost, merged or out of order."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from adapters import timestamps
from adapters.base import AdapterContext
from adapters.mqtt import MqttOptions
from adapters.mqtt.decode import Decoder
from adapters.mqtt.message import Block, Message
from schemas.tagmap import Tag

VIENNA = ZoneInfo("Europe/Vienna")
DELAY_NS = 3 * 10**9


def _night(day: tuple[int, int, int]) -> list[datetime]:
    """Each minute of the six hours around the change."""
    begin = datetime(*day, 22, tzinfo=UTC) - timedelta(days=1)
    return [begin + timedelta(minutes=n) for n in range(360)]


def _ns(moment: datetime) -> int:
    return round(moment.timestamp()) * 10**9


@pytest.mark.parametrize("day", [(2026, 3, 29), (2026, 10, 25)], ids=["spring", "autumn"])
@pytest.mark.parametrize("together", [1, 360], ids=["one by one", "many at once"])
def test_each_minute_of_the_night_keeps_its_place(day: tuple[int, int, int], together: int) -> None:
    """A device that writes the wall clock's time is read right, because its messages come soon."""
    options = MqttOptions.model_validate(
        {
            "broker": "mqtt://127.0.0.1",
            "timezone": "Europe/Vienna",
            "subscriptions": [{"filter": "t/+", "decode": "json", "time": "ts"}],
        }
    )
    tag = Tag(number=0, id="t", path="S/t", source="m", address="t/x#v", type="int32")
    decoder = Decoder(options, AdapterContext("m", (tag,), b"m" * 16, lambda: 0, Path()), Counter())
    minutes = _night(day)
    texts = [moment.astimezone(VIENNA).strftime("%Y-%m-%d %H:%M:%S") for moment in minutes]
    if day[1] == 10:
        assert len(set(texts)) == len(texts) - 60  # an hour is written twice
    payloads = [f'{{"ts": "{text}", "v": {n}}}'.encode() for n, text in enumerate(texts)]
    messages = [
        Message(b"t/x", payload, len(payload), 1, False, False, 1, _ns(moment) + DELAY_NS)
        for payload, moment in zip(payloads, minutes, strict=True)
    ]
    found: list[int] = []
    for begin in range(0, len(messages), together):
        batch, rejects = decoder.decode(Block.of(*messages[begin : begin + together]))
        assert rejects == ()
        found += batch.source_ns.tolist()

    assert found == [_ns(moment) for moment in minutes]
    assert all(before < after for before, after in pairwise(found))


def test_without_the_time_of_arrival_an_hour_would_be_merged() -> None:
    """Negative control: the text alone cannot tell the two hours apart."""
    parse = timestamps.parser("iso8601", VIENNA)
    texts = [moment.astimezone(VIENNA).strftime("%Y-%m-%dT%H:%M:%S") for moment in _night((2026, 10, 25))]
    assert len({parse(text) for text in texts}) == len(texts) - 60


def test_a_time_that_the_clocks_skipped_is_refused() -> None:
    """02:30 of the night in March is no time of that zone."""
    parse = timestamps.parser("iso8601", VIENNA)
    with pytest.raises(ValueError, match="does not exist"):
        parse("2026-03-29 02:30:00")
    assert parse("2026-03-29 02:30:00+02:00")
