"""`make bench`: what a conversation costs in time and memory, as percentiles.

Real processes, real sockets, real speech. The figures depend on the machine and on what else it
does, so nothing passes or fails here: the table names the bar beside each figure.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import openai

from tests.bench.client import busy_percent, listening_s
from tests.bench.server import barge_in_ms, first_sound_ms, relay_ms
from tests.drivers.model_client import (
    CLEAN,
    Client,
    audio_part,
    recording,
    sounds_of,
    user,
    words as words_of,
    wrong_words,
)
from tests.drivers.processes import ROOT, child, command, memory_mb, start_model, start_server

QUESTIONS = ["weather_question.wav", "hi_how_are_you.wav", "help_me.wav"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    name: str
    unit: str
    bar: str
    values: list[float]

    def at(self, percent: float) -> float:
        return float(np.percentile(self.values, percent))


def embedded_model(model_url: str, runs: int) -> Iterator[Figure]:
    """The embedded model alone, asked the same 2-second question over and over."""
    first_ms: list[float] = []
    rtf: list[float] = []
    client = Client(model_url)
    for _ in range(runs):
        question = user(audio_part(_fresh("weather_question.wav")))
        body = {"stream": True, "messages": [question], "audio": {"format": "pcm16"}}
        began = time.monotonic()
        chunks: list[dict[str, Any]] = []
        first = 0.0
        for chunk in client.open(body).chunks():
            if chunk["modality"] == "audio" and not first:
                first = time.monotonic()
            chunks.append(chunk)
        ended = time.monotonic()
        first_ms.append(1000 * (first - began))
        sound_s = sum(map(len, sounds_of(chunks))) / 48_000
        rtf.append((ended - began) / sound_s)
    yield Figure("embedded model: request → first audio, 2-s question", "ms", "p50 ≤ 900", first_ms)
    yield Figure("embedded model: real-time factor, the whole request", "", "p50 < 0.5", rtf)


def _fresh(name: str) -> bytes:
    """The recording with one sample changed, so that its transcript is not known already."""
    file = bytearray(recording(name))
    file[-2:] = int(time.monotonic_ns() % 97).to_bytes(2, "little")
    return bytes(file)


def recogniser(model_url: str) -> Iterator[Figure]:
    """Words wrong on clean recordings."""
    wrong = words = 0
    with openai.OpenAI(base_url=f"{model_url}/v1", api_key="none") as api:
        for name, text in CLEAN.items():
            heard = api.audio.transcriptions.create(file=(name, recording(name)), model="any").text
            expected = words_of(text)
            wrong += wrong_words(expected, words_of(heard))
            words += len(expected)
    yield Figure("recogniser: words wrong on clean clips", "%", "≤ 10", [100 * wrong / words])


def voice_to_voice(server_url: str, rounds: int) -> Iterator[Figure]:
    """Spoken turns through server and embedded model, at 500 ms of silence."""
    turns: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            spoken: list[str] = []
            for name in QUESTIONS:
                file = Path(folder) / f"{number}_{name}"
                file.write_bytes(_fresh(name))
                spoken += ["--wav", str(file)]
            words = command("talk", "--url", server_url, "--json", *spoken)
            ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
            events = [json.loads(line) for line in ran.stdout.splitlines()]
            turns += [event for event in events if event["event"] == "turn"]
    parts = ("voice_to_voice", "endpointing", "model", "playout")
    bars = ("p50 ≤ 1600", "", "", "")
    for part, bar in zip(parts, bars, strict=True):
        values = [float(turn[f"{part}_ms"]) for turn in turns]
        yield Figure(f"turn with the embedded model: {part.replace('_', '-')}", "ms", bar, values)


def memory(pids: dict[str, int]) -> Iterator[Figure]:
    """Resident memory of the programs after all of the above."""
    for name, bar in (("conversation server", "< 150"), ("embedded model", "< 1500")):
        yield Figure(f"memory: {name}", "MB", bar, [memory_mb(pids[name])])


def server_alone() -> Iterator[Figure]:
    """What the server adds, and how fast it falls silent; the model is a stand-in."""
    for sessions, bar in ((1, "p50 < 3"), (20, "p50 < 3, p99 < 15")):
        late = relay_ms(sessions, replies=4 if sessions > 1 else 20)
        yield Figure(f"server adds, chunk → client, {sessions} sessions", "ms", bar, late)
    for seats, bar in ((1, ""), (4, "p95 < 400")):
        heard = first_sound_ms(seats, callers=4, replies=5)
        name = f"four callers, 300 ms to a first chunk, {seats} at once: asked → first sound"
        yield Figure(name, "ms", bar, heard)
    sound, request = barge_in_ms(20)
    yield Figure("barge-in: speech onset → no more audio sent", "ms", "p95 < 400", sound)
    yield Figure("barge-in: speech onset → request closed at the model", "ms", "p95 < 400", request)


def client_alone(turns: int) -> Iterator[Figure]:
    """What the terminal client costs through a sound card; card and model are stand-ins."""
    for name, options in (("lines", ("--json",)), ("screen", ())):
        for echo, more in (("echo cancelled", ()), ("headphones", ("--headphones",))):
            busy = busy_percent((*options, *more), turns)
            yield Figure(f"client: share of a core, {name}, {echo}", "%", "p50 < 10", busy)


def client_start(times: int) -> Iterator[Figure]:
    """How soon the terminal client hears its user, with and without a screen to load."""
    for name, options in (("lines", ("--plain",)), ("screen", ())):
        yield Figure(f"client: start → listening, {name}", "s", "", listening_s(options, times))


def table(figures: Sequence[Figure]) -> str:
    lines = ["| figure | p50 | p95 | p99 | n | target |", "|---|---|---|---|---|---|"]
    for each in figures:
        unit = f" {each.unit}".rstrip()
        shown = [f"{each.at(percent):.3g}{unit}" for percent in (50, 95, 99)]
        shown = shown if len(each.values) > 1 else [shown[0], "", ""]
        lines.append(f"| {each.name} | {' | '.join(shown)} | {len(each.values)} | {each.bar} |")
    return "\n".join(lines)


def plot(figures: Sequence[Figure], file: Path) -> None:
    """Draw every figure in ms as a row of dots, its median marked."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("svg")
    from matplotlib import pyplot  # noqa: PLC0415

    timed = [each for each in figures if each.unit == "ms"][::-1]
    _, axes = cast(Any, pyplot).subplots(figsize=(10, 0.45 * len(timed) + 1))
    for row, each in enumerate(timed):
        axes.plot(each.values, [row] * len(each.values), "o", color="#1b6b57", alpha=0.25, ms=5)
        axes.plot(each.at(50), row, "|", color="#a33022", ms=18, mew=2)
    axes.set_yticks(range(len(timed)), [each.name for each in timed])
    axes.set_xscale("log")
    axes.set_xlabel("ms, logarithmic; red: median")
    axes.grid(axis="x", alpha=0.3)
    cast(Any, pyplot).tight_layout()
    cast(Any, pyplot).savefig(file)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="repetitions (%(default)s)")
    parser.add_argument("--json", type=Path, help="write all values to this file")
    parser.add_argument("--plot", type=Path, help="draw them into this file")
    options = parser.parse_args()
    figures: list[Figure] = []

    def measure(some: Iterator[Figure]) -> None:
        for figure in some:
            figures.append(figure)
            print(f"{figure.name}: {figure.at(50):.3g} {figure.unit}", file=sys.stderr, flush=True)

    with start_model() as model_url, start_server(model_url) as server_url:
        pids = {
            "conversation server": child(f"serve --port 0 --model-url {model_url}/v1"),
            "embedded model": child("client.cli model --port 0"),
        }
        measure(embedded_model(model_url, options.runs))
        measure(recogniser(model_url))
        measure(voice_to_voice(server_url, max(1, options.runs // 4)))
        measure(memory(pids))
    measure(server_alone())
    measure(client_start(options.runs))
    measure(client_alone(max(1, options.runs // 4)))
    print(table(figures))
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in figures]))
    if options.plot:
        plot(figures, options.plot)


if __name__ == "__main__":
    main()
