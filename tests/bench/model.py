"""`python -m tests.bench.model URL`: spoken conversations with a real model server, measured.

The conversation goes through the real conversation server. Between it and the model server
stands a proxy that only forwards and notes times, so every figure but one is of what crossed that
wire: request → first audio by turn, gaps between chunks and the playout delay that they need, what
follows an interruption, and how much a turn sends. The one is voice-to-voice, from the last loud
sample of the question to the first sound that reaches the client.
"""

import argparse
import asyncio
import json
import re
import subprocess
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from websockets.asyncio.client import connect

from tests.bench.server import Mouth
from tests.drivers.processes import ROOT, command, start_server

CHUNK_S = 0.48
"""Sound in one chunk of a server with `codec_chunk_frames: 3`."""

QUESTION = "weather_question.wav"
TURNS = 7
INTERRUPTED = {3, 5}
"""Turns whose answer is cut into after about a second."""


@dataclass(slots=True)
class Exchange:
    """One request and what came back; times are of `time.monotonic`."""

    began_at: float
    sent_bytes: int = 0
    chunk_at: list[float] = field(default_factory=list[float])
    closed_at: float = 0.0
    """When the conversation server closed the connection or the answer ended."""
    voice_to_voice_ms: float = 0.0

    def first_ms(self) -> float:
        return 1000 * (self.chunk_at[0] - self.began_at)

    def gaps_ms(self) -> list[float]:
        return [1000 * float(gap) for gap in np.diff(self.chunk_at)]

    def delay_needed_ms(self) -> float:
        """How long playing must wait after the first chunk so that no later one is late."""
        late = (at - self.chunk_at[0] - i * CHUNK_S for i, at in enumerate(self.chunk_at))
        return 1000 * max(0.0, *late)


class Proxy:
    """Forwards to the model server and keeps every chat request's times."""

    def __init__(self, url: str):
        self._where = urlsplit(url)
        self.exchanges: list[Exchange] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(self._where.hostname, self._where.port)
        up = asyncio.create_task(self._forward(reader, up_writer))
        down = asyncio.create_task(self._back(up_reader, writer))
        with suppress(asyncio.CancelledError):
            # Cancelled when all is over, with connections that idle in the pool.
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        for task, end in ((up, up_writer), (down, writer)):
            task.cancel()
            end.close()
        if self.exchanges and not self.exchanges[-1].closed_at:
            self.exchanges[-1].closed_at = time.monotonic()

    async def _forward(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            if data.startswith(b"POST /v1/chat/completions"):
                self.exchanges.append(Exchange(time.monotonic()))
            if self.exchanges:
                self.exchanges[-1].sent_bytes += len(data)
            to.write(data)
            await to.drain()

    async def _back(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        line = b""
        while data := await reader.read(2**16):
            to.write(data)
            await to.drain()
            *lines, line = (line + data).split(b"\n")
            for each in lines:
                if self.exchanges and each.startswith(b"data:") and b'"modality":"audio"' in each:
                    self.exchanges[-1].chunk_at.append(time.monotonic())


@asynccontextmanager
async def proxy(url: str) -> AsyncGenerator[tuple[Proxy, str]]:
    watching = Proxy(url)
    server = await asyncio.start_server(watching.connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield watching, f"http://127.0.0.1:{port}"
        server.close()


async def converse(server_url: str, watching: Proxy) -> list[Exchange]:
    """Hold one conversation; return the exchange of each turn."""
    turns: list[Exchange] = []
    async with connect(f"{server_url}/v1/realtime", max_size=None) as socket:
        mouth = Mouth(socket)
        speaking = asyncio.create_task(mouth.speak())
        cut_into = ""
        for turn in range(1, TURNS + 1):
            mouth.say(QUESTION)
            sound_s, began = 0.0, 0.0
            async for frame in socket:
                event = json.loads(frame)
                if event.get("response_id") == cut_into:
                    continue
                if event["type"] == "response.output_audio.delta":
                    began = began or time.monotonic()
                    sound_s += len(event["delta"]) * 3 / 4 / 48_000
                    if turn in INTERRUPTED and sound_s > 1.0:
                        cut_into = event["response_id"]
                        break
                if event["type"] == "response.done":
                    if event["response"]["status"] == "cancelled":
                        continue
                    assert event["response"]["status"] == "completed", event
                    break
            turns.append(watching.exchanges[-1])
            turns[-1].voice_to_voice_ms = 1000 * (began - mouth.ends_at)
            if turn not in INTERRUPTED:
                # The next question must not cut into what still plays.
                await asyncio.sleep(max(0.0, began + sound_s - time.monotonic()) + 0.3)
        speaking.cancel()
    return turns


async def conversations(url: str, server_url: str, watching: Proxy, times: int) -> None:
    runs = [await converse(server_url, watching) for _ in range(times)]
    print("| turn | request → first audio, p50 (all) | voice-to-voice, p50 | request |")
    print("|---|---|---|---|")
    for turn in range(TURNS):
        each = [run[turn] for run in runs]
        first = [exchange.first_ms() for exchange in each]
        cut = ", cut into" if turn + 1 in INTERRUPTED else ""
        shown = " ".join(f"{ms:.0f}" for ms in first)
        kb = np.median([exchange.sent_bytes for exchange in each]) / 1000
        heard = np.median([exchange.voice_to_voice_ms for exchange in each])
        first_ms = f"{np.median(first):.0f} ms ({shown})"
        print(f"| {turn + 1}{cut} | {first_ms} | {heard:.0f} ms | {kb:.0f} kB |")
    every = [exchange.voice_to_voice_ms for run in runs for exchange in run]
    print(f"\nvoice-to-voice of all turns: {_percentiles(every)}")
    later = [run[-1].first_ms() / run[0].first_ms() for run in runs]
    print(f"first audio of turn {TURNS} beside turn 1: {np.median(later):.2f}")
    whole = [ex for run in runs for n, ex in enumerate(run, 1) if n not in INTERRUPTED]
    gaps = [gap for ex in whole for gap in ex.gaps_ms()]
    needed = [ex.delay_needed_ms() for ex in whole]
    after = [run[n].first_ms() for run in runs for n in INTERRUPTED]
    print(f"gaps between chunks: {_percentiles(gaps)}")
    print(f"playout delay needed: {_percentiles(needed)}")
    print(f"first audio of the request after an interruption: {_percentiles(after)}")
    wasted = len(watching.exchanges) - times * TURNS
    print(f"requests: {len(watching.exchanges)}, {wasted} given up in a pause")
    print(f"model server: {url}")


def _percentiles(values: list[float]) -> str:
    at = [float(np.percentile(values, percent)) for percent in (50, 95, 100)]
    return "p50 {:.0f}, p95 {:.0f}, max {:.0f} ms".format(*at)


def ask(url: str, at_once: int) -> None:
    """One-off requests, some at once: they queue at the model server."""
    file = str(Path("tests/data") / QUESTION)
    words = command("ask", "--url", url, "--audio", file, "--concurrency", str(at_once), "--json")
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    for line in ran.stdout.splitlines():
        reply = json.loads(line)
        reply.pop("text", None)
        print(f"ask, {at_once} at once: {json.dumps(reply)}")
    for line in re.findall(r".+", ran.stderr):
        print(f"ask: {line}")


async def measure(url: str, times: int, options: list[str]) -> None:
    async with proxy(url) as (watching, near):
        with start_server(near, *options) as server_url:
            await conversations(url, server_url, watching, times)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.model", description=__doc__)
    parser.add_argument("url", help="the model server's base URL, ending in /v1")
    parser.add_argument("--times", type=int, default=3, help="conversations (%(default)s)")
    parser.add_argument("--config", help="configuration of the conversation server")
    options = parser.parse_args()
    ask(options.url, 1)
    ask(options.url, 4)
    extra = ["--config", options.config] if options.config else []
    asyncio.run(measure(options.url, options.times, extra))


if __name__ == "__main__":
    main()
