"""
``python -m simulators``: the demo site until Ctrl-C, SIGTERM or the end of standard input.

Prints ``READY {json}`` with the addresses, then a line as each fault begins and ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from threading import Thread

from simulators.plant import Fault
from simulators.recording import record
from simulators.site import DEMO_PERIOD_S, DEMO_RECORDED_S, DEMO_SCHEDULE, Ports, Site, run_site


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulators", description=__doc__)
    parser.add_argument("--seed", type=int, default=7, help="of the plant's noise (default 7)")
    parser.add_argument("--modbus-port", type=int, default=0, help="0 asks for a free port (default)")
    parser.add_argument("--opcua-port", type=int, default=0)
    parser.add_argument("--mqtt-port", type=int, default=0)
    parser.add_argument(
        "--faults",
        default="demo",
        help='"demo" (default), "none", or a JSON file: a list of {"kind", "start_s", "end_s", "size", "ramp_s"}',
    )
    parser.add_argument("--recording", type=Path, help="write what the plant did before its servers were up here (CSV)")
    parser.add_argument(
        "--recorded-s", type=float, default=DEMO_RECORDED_S, help=f"default {DEMO_RECORDED_S:g} s of it"
    )
    parser.add_argument("--until-eof", action="store_true", help="stop when standard input ends")
    return parser.parse_args()


def _schedule(name: str) -> tuple[tuple[Fault, ...], float | None]:
    if name == "demo":
        return DEMO_SCHEDULE, DEMO_PERIOD_S
    if name == "none":
        return (), None
    return tuple(Fault(**one) for one in json.loads(Path(name).read_text("utf-8"))), None


async def _main(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows has no signal handlers on the loop; there Ctrl-C raises KeyboardInterrupt
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    faults, repeat_s = _schedule(arguments.faults)
    ports = Ports(arguments.modbus_port, arguments.opcua_port, arguments.mqtt_port)
    site = Site(seed=arguments.seed, faults=faults, repeat_s=repeat_s, ports=ports)
    if arguments.recording is not None:
        record(site.plant, arguments.recorded_s, arguments.recording)
    if arguments.until_eof:
        Thread(target=_wait_for_eof, args=(loop, stop), daemon=True).start()
    await run_site(site, stop, lambda line: print(line, flush=True))


def _wait_for_eof(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    # the file number, not sys.stdin: a lock held by a daemon thread would abort the interpreter's end
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(stop.set)


def main() -> int:
    """Run the site; 1 when a port is taken or the schedule cannot be read."""
    try:
        asyncio.run(_main(_arguments()))
    except KeyboardInterrupt:
        return 0
    except (OSError, ValueError, TypeError) as error:
        print(f"simulators: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
