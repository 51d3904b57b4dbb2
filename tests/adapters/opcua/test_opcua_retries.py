"""When a server is asked again for what it refused."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from adapters.base import AdapterContext
from adapters.opcua import OpcUaOptions
from adapters.opcua.config import Retry
from adapters.opcua.notifiers import Notifiers
from adapters.opcua.progress import Held
from adapters.opcua.retries import RetryClock
from schemas import status

Eventually = Callable[..., Awaitable[None]]
DENIED = 0x801F0000  # BadUserAccessDenied


async def test_each_refusal_has_its_own_wait(eventually: Eventually) -> None:
    """A node that is not there is asked for sooner than one that is denied; one that was made, no more."""
    clock = RetryClock(Retry.model_validate({"invalid_node": "300ms", "bad_node": "1h"}))
    refused = {1: status.BAD_NODE_ID_UNKNOWN, 2: DENIED}
    assert clock.due(refused) == refused
    clock.start(refused, refused)
    assert clock.due(refused) == {}
    await eventually(lambda: clock.due(refused))
    assert clock.due(refused) == {1: status.BAD_NODE_ID_UNKNOWN}
    clock.start([1], {2: DENIED})
    assert clock.due({2: DENIED}) == {}


async def test_the_retry_of_one_notifier_does_not_put_off_another(eventually: Eventually, tmp_path: Path) -> None:
    """One that the server does not know is asked for often; the time of the one that it denies comes all the same."""
    options = OpcUaOptions.model_validate(
        {
            "endpoint": "opc.tcp://127.0.0.1:9/",
            "security": "None",
            "events": [{"notifier": "nsu=urn:nowhere;s=A"}, {"notifier": "i=2253"}],
            "retry": {"invalid_node": "20ms", "bad_node": "400ms"},
        }
    )
    context = AdapterContext("cell", (), bytes(16), time.time_ns, tmp_path)
    notifiers = Notifiers(options, context, Counter(), {})
    notifiers.use(["http://opcfoundation.org/UA/"])
    held = Held(1, 1.0)
    held.refused.update({0: status.BAD_NODE_ID_UNKNOWN, 1: DENIED})
    notifiers.start(held)
    nobody: Any = None  # what has no such namespace is not asked of the server
    retried = 0
    async with asyncio.timeout(60):
        while 1 not in notifiers.due(held):
            await eventually(lambda: notifiers.due(held))
            if notifiers.due(held) == [0]:
                await notifiers.retry(nobody, held)
                retried += 1
    assert retried > 1
