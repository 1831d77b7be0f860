"""Memory of a session, and how soon the programs are there: parts of the load benchmark's table."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from picows import WSListener, ws_connect

from tests.bench.callers import TURN_S, Caller, microphone
from tests.bench.load import ANSWER_GROUPS, Load, pin
from tests.bench.server import STAGGER_S
from tests.bench.servers import running
from tests.drivers.processes import memory_mb
from tests.fakes import stand_in

SESSIONS = 20
TURNS = 10
LISTENS_S = TURN_S
"""How long a session hears an empty room before its memory counts as that of an idle one."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a server, MB."""

    started: float
    """Nobody is connected yet."""
    first: float
    """What the first session adds, with all that is loaded for it."""
    idle: float
    """What each further one adds, connected and listening to an empty room."""
    used: float
    """What each one has after ten turns, beyond the first one's share."""


def memory(server: str) -> Memory:
    """Have one session and then twenty listen to an empty room, and then talk for ten turns."""
    load = Load(SESSIONS, 0, server)
    with (
        stand_in(at_once=SESSIONS, first_chunk_ms=300, rtf=0.5, groups=ANSWER_GROUPS) as model,
        running(server, model.url, load.server_config()) as (url, pid),
    ):
        pin(pid)
        started = memory_mb(pid)
        callers = [load.caller(number) for number in range(SESSIONS)]
        one, idle, used = asyncio.run(_talk(url, callers, pid))
    return Memory(
        started=started,
        first=one - started,
        idle=(idle - one) / (SESSIONS - 1),
        used=(used - one) / (SESSIONS - 1),
    )


async def _talk(url: str, callers: Sequence[Caller], pid: int) -> tuple[float, float, float]:
    """Return the server's memory with one session, with all of them, and after their turns."""
    room, question = (microphone(binary=True, speaks=speaks)[0] for speaks in (False, True))

    async def live(caller: Caller, idle_until: float) -> None:
        await caller.speak(room, idle_until - TURN_S)
        await caller.speak(question, time.monotonic() + (TURNS - 0.5) * TURN_S)

    one = 0.0
    began = time.monotonic()
    idle_at = began + 2 * LISTENS_S + len(callers) * STAGGER_S
    async with asyncio.TaskGroup() as tasks:
        for number, caller in enumerate(callers):
            await ws_connect(lambda caller=caller: caller, url + caller.path())
            tasks.create_task(live(caller, idle_at))
            await asyncio.sleep(STAGGER_S if number else LISTENS_S)
            if not number:
                one = memory_mb(pid)
        await asyncio.sleep(idle_at - time.monotonic())
        idle = memory_mb(pid)
    used = memory_mb(pid)
    for caller in callers:
        caller.leave()
    return one, idle, used


def start_s(server: str, times: int) -> list[float]:
    """From the start of the program until it has taken a WebSocket, one time after the other."""
    took: list[float] = []
    with stand_in() as model:
        for _ in range(times):
            began = time.monotonic()
            with running(server, model.url) as (url, _pid):
                asyncio.run(_connect(url + Load(1, 0, server).caller(0).path()))
                took.append(time.monotonic() - began)
    return took


async def _connect(url: str) -> None:
    transport, _ = await ws_connect(WSListener, url)
    transport.disconnect(graceful=False)
