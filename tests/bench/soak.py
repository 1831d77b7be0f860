"""`python -m tests.bench.soak --minutes 60`: a live conversation, as long as you like, watched.

The real client and the real server talk through a virtual sound card; a stand-in for the model
answers. What is watched is what a short test can't see: memory that creeps, and processor time.
"""

import argparse
import itertools
import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.drivers.model_client import DATA
from tests.drivers.processes import ROOT, busy_s, child, command, memory_mb, start_server
from tests.drivers.virtual_audio import VirtualAudio, virtual_audio
from tests.fakes import Request, stand_in

QUESTIONS = ("weather_question.wav", "hi_how_are_you.wav", "help_me.wav")
INTERRUPTED = 4
"""Every so many-th answer is cut into by the next question."""
WARM_UP = 0.2
"""Share of the time in which buffers, caches and the allocator may still grow."""
ANSWER_GROUPS = 30
"""4.8 s of sound."""
REMEMBERED = 10
"""Requests that the stand-in keeps: it isn't what is watched."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a process."""

    at_s: float
    memory_mb: float
    cpu_s: float


def look(pid: int, now: float) -> Sample:
    """Read what the kernel knows of a process."""
    return Sample(now, memory_mb(pid), busy_s(pid))


def creep(samples: list[Sample]) -> tuple[float, float, float]:
    """Return the memory after the warm-up and at the end, in MB, and its slope in MB an hour."""
    calm = samples[int(WARM_UP * len(samples)) :]
    slope = np.polyfit([s.at_s for s in calm], [s.memory_mb for s in calm], 1)[0]
    return calm[0].memory_mb, calm[-1].memory_mb, 3600 * float(slope)


def cpu_percent(samples: list[Sample]) -> float:
    """Return the share of one core that the process had."""
    first, last = samples[0], samples[-1]
    return 100 * (last.cpu_s - first.cpu_s) / (last.at_s - first.at_s)


class Conversation:
    """Speaks when the agent has finished, and now and then before."""

    def __init__(
        self, talking: "subprocess.Popen[str]", card: VirtualAudio, requests: list[Request]
    ):
        self._talking = talking
        self._card = card
        self._requests = requests
        self.turns = self.interruptions = 0
        self.others: dict[str, int] = {}
        """What else the client told, by event: errors and lost connections would be here."""

    def go_on(self) -> None:
        """Talk until the client ends."""
        questions = itertools.cycle(QUESTIONS)
        for event in self._events():
            match event:
                case {"event": "state", "state": "listening"}:
                    self._card.say(DATA / next(questions)).wait()
                case {"event": "state", "state": "speaking"} if self.turns % INTERRUPTED == 3:
                    self._card.say(DATA / next(questions)).wait()
                case {"event": "interrupted"}:
                    self.interruptions += 1
                case {"event": "turn"}:
                    self.turns += 1
                    del self._requests[:-REMEMBERED]
                case _:
                    name = str(event["event"])
                    self.others[name] = self.others.get(name, 0) + 1

    def _events(self) -> Iterator[dict[str, Any]]:
        assert self._talking.stdout is not None
        return map(json.loads, self._talking.stdout)


def watch(
    pids: Mapping[str, int], seconds: float, every_s: float, talk: Conversation
) -> dict[str, list[Sample]]:
    """Look at the processes now and then; show how it goes."""
    seen: dict[str, list[Sample]] = {name: [] for name in pids}
    began = time.monotonic()
    pause = threading.Event()
    while (now := time.monotonic() - began) < seconds:
        for name, pid in pids.items():
            seen[name].append(look(pid, now))
        sizes = ", ".join(f"{name} {of[-1].memory_mb:.1f} MB" for name, of in seen.items())
        print(f"{now / 60:5.1f} min, {talk.turns} turns: {sizes}", flush=True)
        pause.wait(every_s)
    return seen


def soak(minutes: float, every_s: float) -> tuple[dict[str, list[Sample]], Conversation]:
    """Hold the conversation; return what was seen of each process."""
    with (
        stand_in(first_chunk_ms=300, rtf=0.5, groups=ANSWER_GROUPS) as model,
        start_server(model.url.removesuffix("/v1")) as url,
        virtual_audio() as card,
        subprocess.Popen(
            command("talk", "--url", url, "--json"),
            cwd=ROOT,
            env=card.environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as talking,
    ):
        talk = Conversation(talking, card, model.requests)
        mouth = threading.Thread(target=talk.go_on)
        mouth.start()
        pids = {"server": child("client.cli serve"), "client": talking.pid}
        seen = watch(pids, 60 * minutes, every_s, talk)
        talking.send_signal(signal.SIGINT)
        mouth.join()
    return seen, talk


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="how long (%(default)s)")
    parser.add_argument("--every", type=float, default=30, help="seconds between looks")
    options = parser.parse_args()
    seen, talk = soak(options.minutes, options.every)
    print(f"\n{talk.turns} turns, {talk.interruptions} interruptions, beside them {talk.others}")
    print("| process | after warm-up | at the end | creep | processor |\n|---|---|---|---|---|")
    for name, samples in seen.items():
        first, last, slope = creep(samples)
        shown = f"{first:.1f} MB | {last:.1f} MB | {slope:+.2f} MB/h | {cpu_percent(samples):.1f} %"
        print(f"| {name} | {shown} |")


if __name__ == "__main__":
    main()
