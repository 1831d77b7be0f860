"""`python -m tests.bench.load --sessions 25`: what so many conversations cost a server at once.

Each session sends 20 ms of its microphone every 20 ms and asks a recorded question every 10 s; a
stand-in for the model answers with ten chunks of 480 ms. The server has one core to itself; the
callers and the stand-in share another. `--peer` has a server made with another framework do it.

The relay of a chunk is the time from the model's socket to the caller's. Of our replies all chunks
but the first are taken, which may wait until the turn is over for certain; of a peer's only the
first, as it sends the others no sooner than they are played.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from picows import ws_connect

from tests.bench.callers import (
    TURN_S,
    Caller,
    PeerCaller,
    RealtimeCaller,
    microphone,
)
from tests.bench.server import STAGGER_S
from tests.bench.servers import OURS, PEERS, running
from tests.drivers.processes import busy_s, children, memory_mb
from tests.fakes import Request, stand_in

ANSWER_GROUPS = 29
"""4.64 s of sound, in ten chunks."""
WARM_UP_S = TURN_S
MOST_REPLIES = 64
"""At once, as the setting allows; of 200 sessions a quarter is answered at any time."""
CORES = sorted(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Load:
    """What the sessions do, and for how long they are measured."""

    sessions: int
    seconds: float
    server: str = OURS
    """Or the name of a peer, to which nothing below applies."""
    binary: bool = True
    detection: str = "server_vad"
    """Or `semantic_vad`."""
    guarded: bool = False
    """Whether the server guards against echoes; the callers say that they cancel them if not."""
    config: str = ""
    """Of the server, in TOML, beside the number of replies at once."""
    workers: int = 1
    """Processes of our server; more than one are on all cores, beside the callers."""

    def caller(self, number: int) -> Caller:
        if self.server != OURS:
            return PeerCaller(number)
        return RealtimeCaller(
            number, binary=self.binary, detection=self.detection, guarded=self.guarded
        )

    def server_config(self) -> str:
        at_once = min(self.sessions, MOST_REPLIES)
        listen = f"[listen]\nworkers = {self.workers}\n"
        return f"{listen}[model]\nreplies_at_once = {at_once}\n{self.config}"


@dataclass(frozen=True, slots=True)
class Cost:
    """What was measured; times are `None` if there were none."""

    sessions: int
    cpu_s: float
    """Of the server, a session-minute."""
    before_mb: float
    """Memory of the server once it listens."""
    after_mb: float
    """At the end, with all sessions."""
    relay_p50_ms: float | None
    relay_p99_ms: float | None
    asked_p50_ms: float | None
    """From the end of speech to the request whose reply was heard."""
    asked_p99_ms: float | None
    replies: int
    """Heard as a whole."""
    turns: int
    """Asked by all of them."""
    overloaded: int
    """Callers who did not hear all that the model made for them; they are left out above."""
    yardstick_ms: float | None = None
    """What the server's core took for one piece of work, before and after, if that was timed."""

    @property
    def core_percent(self) -> float:
        return self.cpu_s * self.sessions / 0.6


async def talk(
    url: str, callers: Sequence[Caller], frames: list[bytes], server: Sequence[int], seconds: float
) -> tuple[list[float], float]:
    """Hold the conversations; return the processor time, s, of each of the server's processes, and
    the memory of all, MB."""
    begins = time.monotonic() + len(callers) * STAGGER_S + WARM_UP_S
    ends = begins + seconds
    async with asyncio.TaskGroup() as tasks:
        for caller in callers:
            await ws_connect(lambda caller=caller: caller, url + caller.path())
            tasks.create_task(caller.speak(frames, ends))
            await asyncio.sleep(STAGGER_S)
        await asyncio.sleep(begins - time.monotonic())
        before = [busy_s(each) for each in server]
        await asyncio.sleep(ends - time.monotonic())
        cpu_s = [busy_s(each) - began for each, began in zip(server, before, strict=True)]
        memory = sum(map(memory_mb, server))
    for caller in callers:
        caller.leave()
    return cpu_s, memory


def pin(server: int) -> None:
    """Give a server the first core to itself."""
    for thread in Path(f"/proc/{server}/task").iterdir():
        os.sched_setaffinity(int(thread.name), CORES[:1])


def yardstick_ms() -> float:
    """Processor time that the server's core takes for one piece of work."""
    here = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES[:1])
    began = time.thread_time()
    # No product of matrices: it would wait for threads that are on other cores.
    values = np.linspace(0, 1, 4096, dtype=np.float32)
    for _ in range(3000):
        np.tanh(values, out=values)
    sum({index: str(index) for index in range(200_000)})
    took_s = time.thread_time() - began
    os.sched_setaffinity(0, here)
    return 1000 * took_s


def measure(load: Load) -> Cost:
    """Hold so many conversations at once."""
    os.sched_setaffinity(0, CORES[1:] or CORES)
    frames, speech_end_s = microphone(load.binary)
    callers = [load.caller(number) for number in range(load.sessions)]
    yardsticks = [yardstick_ms()]
    with (
        stand_in(at_once=load.sessions, first_chunk_ms=300, rtf=0.5, groups=ANSWER_GROUPS) as model,
        running(load.server, model.url, load.server_config()) as (url, server),
    ):
        processes = [server, *children(server)]
        if load.workers == 1:
            pin(server)
        before_mb = sum(map(memory_mb, processes))
        each_s, after_mb = asyncio.run(talk(url, callers, frames, processes, load.seconds))
        cpu_s = sum(each_s)
    if load.workers > 1:
        print("processor time of each process, s:", *(f"{each:.2f}" for each in each_s))
    yardsticks.append(yardstick_ms())
    relay_ms: list[float] = []
    asked_ms: list[float] = []
    overloaded = 0
    for caller in callers:
        if caller.trouble:
            print(caller.name, caller.trouble)
        heard = heard_by(caller, model.chats)
        times = caller.relay_ms([each.sent_at for each in heard])
        if times is None:
            overloaded += 1
            continue
        relay_ms += times
        for each in heard:
            begun = max(at for at in caller.began_at if at < each.began_at)
            asked_ms.append(1000 * (each.began_at - begun - speech_end_s))
    minutes = load.sessions * load.seconds / 60
    return Cost(
        sessions=load.sessions,
        cpu_s=cpu_s / minutes,
        yardstick_ms=sum(yardsticks) / 2,
        before_mb=before_mb,
        after_mb=after_mb,
        relay_p50_ms=percentile(relay_ms, 50),
        relay_p99_ms=percentile(relay_ms, 99),
        asked_p50_ms=percentile(asked_ms, 50),
        asked_p99_ms=percentile(asked_ms, 99),
        replies=len(asked_ms),
        turns=sum(len(caller.began_at) for caller in callers),
        overloaded=overloaded,
    )


def heard_by(caller: Caller, chats: Sequence[Request]) -> list[Request]:
    """Its replies; one that was prepared in a pause may have been dropped before its end."""
    asked = [each for each in chats if caller.name in each.raw.decode()]
    return [each for each in asked if each.ended == "finished"]


def percentile(times: list[float], percent: float) -> float | None:
    return round(float(np.percentile(times, percent)), 2) if times else None


HEAD = (
    "| sessions | CPU-s a session-minute | core | relay p50 / p99, ms | asked p50 / p99, ms "
    "| replies of turns | overloaded | MB, a session |\n|---|---|---|---|---|---|---|---|"
)


def line(cost: Cost) -> str:
    """What was measured, as a line of a table."""
    each_mb = (cost.after_mb - cost.before_mb) / cost.sessions
    return (
        f"| {cost.sessions} | {cost.cpu_s:.2f} | {cost.core_percent:.0f} % "
        f"| {shown(cost.relay_p50_ms)} / {shown(cost.relay_p99_ms)} "
        f"| {shown(cost.asked_p50_ms, 0)} / {shown(cost.asked_p99_ms, 0)} "
        f"| {cost.replies} of {cost.turns} | {cost.overloaded} "
        f"| {cost.before_mb:.0f}, {each_mb:.1f} |"
    )


def shown(value: float | None, digits: int = 1) -> str:
    return "none" if value is None else f"{value:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.load", description=__doc__)
    parser.add_argument("--sessions", type=int, nargs="*", default=[1, 10, 25, 50])
    parser.add_argument("--seconds", type=float, default=30, help="of each number (%(default)s)")
    parser.add_argument("--peer", choices=PEERS, help="a server made with this, not ours")
    parser.add_argument("--json-frames", action="store_true", help="sound as base64 in JSON")
    parser.add_argument("--semantic", action="store_true", help="semantic_vad, not server_vad")
    parser.add_argument(
        "--guard",
        action="store_true",
        help="with the echo guard, which callers don't need otherwise",
    )
    parser.add_argument("--config", default="", help="more of the server's configuration, in TOML")
    parser.add_argument("--workers", type=int, default=1, help="processes of our server")
    options = parser.parse_args()
    ours_alone = (options.json_frames, options.semantic, options.guard, options.config)
    if options.peer and any(ours_alone):
        parser.error("a peer knows none of the options of our server")
    print(HEAD)
    for sessions in options.sessions:
        load = Load(
            sessions,
            options.seconds,
            server=options.peer or OURS,
            binary=not options.json_frames,
            detection="semantic_vad" if options.semantic else "server_vad",
            guarded=options.guard,
            config=options.config,
            workers=options.workers,
        )
        print(line(measure(load)), flush=True)


if __name__ == "__main__":
    main()
