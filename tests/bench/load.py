"""`python -m tests.bench.load --sessions 25`: what so many conversations cost the server at once.

Each session sends 20 ms of its microphone every 20 ms and asks a recorded question every 10 s; a
stand-in for the model answers with ten chunks of 480 ms. The server has one core to itself; the
callers and the stand-in share another.
"""

import argparse
import asyncio
import base64
import itertools
import json
import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from agent.audio import RATE, pcm16, read_wav
from client.sound.clip import end_of_speech
from tests.bench.server import FRAME_BYTES, FRAME_MS, STAGGER_S
from tests.drivers.model_client import recording
from tests.drivers.processes import busy_s, child, memory_mb, start_server
from tests.fakes import stand_in

FRAME_S = FRAME_MS / 1000
TURN_S = 10.0
CHUNKS, ANSWER_GROUPS = 10, 29
"""4.64 s of sound."""
NOISE = 10 ** (-66 / 20)
"""What a quiet room gives, of full scale: digital silence would be too easy."""
WARM_UP_S = TURN_S
MOST_REPLIES = 64
"""At once, as the setting allows; of 200 sessions a quarter is answered at any time."""
CORES = sorted(os.sched_getaffinity(0))
QUESTION = "weather_question.wav"


@dataclass(frozen=True, slots=True)
class Load:
    """What the sessions do, and for how long they are measured."""

    sessions: int
    seconds: float
    binary: bool
    detection: str
    """`server_vad` or `semantic_vad`."""
    guarded: bool
    """Whether the server guards against echoes; the callers say that they cancel them if not."""
    config: str
    """Of the server, in TOML, beside the address of the model."""


@dataclass(slots=True)
class Cost:
    """What was measured."""

    cpu_s: float
    """Of the server, a session-minute."""
    before_mb: float
    """Memory of the server once it listens."""
    after_mb: float
    """At the end, with all sessions."""
    relay_ms: list[float]
    """From the model's chunk on its socket to the client's socket."""
    asked_ms: list[float]
    """From the end of speech to the request whose reply was heard."""
    turns: int
    """Asked by all of them."""
    overloaded: int
    """Callers who did not hear all that the model made for them; they are left out above."""


class Caller(WSListener):
    """One client, which plays nothing and says the same again and again."""

    def __init__(self, number: int, load: Load):
        self._load = load
        self.name = f"caller {number}."
        """In its instructions, and so in its requests to the model."""
        self.chunks_at: list[float] = []
        """When each chunk of the agent's voice came."""
        self.began_at: list[float] = []
        """When the microphone began to give each question."""
        self.trouble = ""

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        detection = {"type": self._load.detection}
        asked = {"binary_audio": self._load.binary, "echo_cancelled": not self._load.guarded}
        session = {
            "type": "realtime",
            "instructions": self.name,
            "audio": {"input": {"turn_detection": detection}},
            "x_mimo": asked,
        }
        update = {"type": "session.update", "session": session}
        transport.send(WSMsgType.TEXT, json.dumps(update).encode())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        head = frame.get_payload_as_bytes()[:160]
        if b'"response.output_audio.delta"' in head:
            self.chunks_at.append(time.monotonic())
        elif b'"type":"error"' in head:
            self.trouble = frame.get_payload_as_utf8_text()

    def leave(self) -> None:
        self._transport.disconnect(graceful=False)

    async def speak(self, frames: list[bytes], until: float) -> None:
        """Send what the microphone gives, each frame when its last sample was captured."""
        kind = WSMsgType.BINARY if self._load.binary else WSMsgType.TEXT
        began = time.monotonic()
        for number in itertools.count():
            index = number % len(frames)
            if not index:
                if time.monotonic() > until:
                    return
                self.began_at.append(began + number * FRAME_S)
            captured = began + (number + 1) * FRAME_S
            if (wait_s := captured - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            self._transport.send(kind, frames[index])


def microphone(binary: bool) -> tuple[list[bytes], float]:
    """A question and then the noise of a room, as frames of the wire; where its speech ends, s."""
    said = np.frombuffer(read_wav(recording(QUESTION)), np.int16)
    sound = np.random.default_rng(1).normal(0, NOISE, round(TURN_S * RATE))
    sound[: len(said)] += said / 2**15
    pcm = pcm16(sound)
    frames = [pcm[i : i + FRAME_BYTES] for i in range(0, len(pcm), FRAME_BYTES)]
    if not binary:
        texts = (base64.b64encode(frame).decode() for frame in frames)
        appends = ({"type": "input_audio_buffer.append", "audio": text} for text in texts)
        frames = [json.dumps(append).encode() for append in appends]
    return frames, end_of_speech(said) / RATE


async def _talk(
    url: str, server: int, load: Load, frames: list[bytes]
) -> tuple[list[Caller], float, float]:
    """Hold the conversations; return the callers, the server's processor time, and its memory."""
    callers: list[Caller] = []
    begins = time.monotonic() + load.sessions * STAGGER_S + WARM_UP_S
    ends = begins + load.seconds
    async with asyncio.TaskGroup() as tasks:
        for number in range(load.sessions):
            _, caller = await ws_connect(partial(Caller, number, load), f"{url}/v1/realtime")
            callers.append(caller)
            tasks.create_task(caller.speak(frames, ends))
            await asyncio.sleep(STAGGER_S)
        await asyncio.sleep(begins - time.monotonic())
        before = busy_s(server)
        await asyncio.sleep(ends - time.monotonic())
        cpu_s = busy_s(server) - before
        memory = memory_mb(server)
    for caller in callers:
        caller.leave()
    return callers, cpu_s, memory


def measure(load: Load) -> Cost:
    """Hold so many conversations at once."""
    os.sched_setaffinity(0, CORES[1:] or CORES)
    frames, speech_end_s = microphone(load.binary)
    with (
        TemporaryDirectory() as folder,
        stand_in(at_once=load.sessions, first_chunk_ms=300, rtf=0.5, groups=ANSWER_GROUPS) as model,
    ):
        config = Path(folder) / "server.toml"
        at_once = min(load.sessions, MOST_REPLIES)
        config.write_text(f"[model]\nreplies_at_once = {at_once}\n{load.config}")
        with start_server(model.url.removesuffix("/v1"), "--config", str(config)) as url:
            server = child("client.cli serve")
            for thread in Path(f"/proc/{server}/task").iterdir():
                os.sched_setaffinity(int(thread.name), CORES[:1])
            before_mb = memory_mb(server)
            callers, cpu_s, after_mb = asyncio.run(_talk(url, server, load, frames))
    relay_ms: list[float] = []
    asked_ms: list[float] = []
    overloaded = 0
    for caller in callers:
        if caller.trouble:
            print(caller.name, caller.trouble)
        asked = [each for each in model.chats if caller.name in each.raw.decode()]
        # A reply that was prepared in a pause may have been dropped before its end.
        heard = [each for each in asked if each.ended == "finished"]
        sent_at = [at for each in heard for at in each.sent_at]
        if len(sent_at) != len(caller.chunks_at):
            overloaded += 1
            continue
        pairs = zip(sent_at, caller.chunks_at, strict=True)
        times = [1000 * (came - sent) for sent, came in pairs]
        # The first may wait until the turn is over for certain.
        relay_ms += [ms for number, ms in enumerate(times) if number % CHUNKS]
        for each in heard:
            begun = max(at for at in caller.began_at if at < each.began_at)
            asked_ms.append(1000 * (each.began_at - begun - speech_end_s))
    minutes = load.sessions * load.seconds / 60
    turns = sum(len(caller.began_at) for caller in callers)
    return Cost(cpu_s / minutes, before_mb, after_mb, relay_ms, asked_ms, turns, overloaded)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.load", description=__doc__)
    parser.add_argument("--sessions", type=int, nargs="*", default=[1, 10, 25, 50])
    parser.add_argument("--seconds", type=float, default=30, help="of each number (%(default)s)")
    parser.add_argument("--json-frames", action="store_true", help="sound as base64 in JSON")
    parser.add_argument("--semantic", action="store_true", help="semantic_vad, not server_vad")
    parser.add_argument(
        "--guard",
        action="store_true",
        help="with the echo guard, which callers don't need otherwise",
    )
    parser.add_argument("--config", default="", help="more of the server's configuration, in TOML")
    options = parser.parse_args()
    detection = "semantic_vad" if options.semantic else "server_vad"
    print(
        "| sessions | CPU-s a session-minute | core | relay p50 / p99 | asked p50 / p99 "
        "| replies of turns | overloaded | MB, a session |\n|---|---|---|---|---|---|---|---|"
    )
    for sessions in options.sessions:
        is_binary = not options.json_frames
        load = Load(sessions, options.seconds, is_binary, detection, options.guard, options.config)
        cost = measure(load)
        times = (cost.relay_ms or [np.nan], cost.asked_ms or [np.nan])
        relay, asked = (np.percentile(each, [50, 99]) for each in times)
        print(
            f"| {sessions} | {cost.cpu_s:.2f} | {cost.cpu_s * sessions / 0.6:.0f} % "
            f"| {relay[0]:.1f} / {relay[1]:.1f} ms | {asked[0]:.0f} / {asked[1]:.0f} ms "
            f"| {len(cost.asked_ms)} of {cost.turns} | {cost.overloaded} "
            f"| {cost.before_mb:.0f}, {(cost.after_mb - cost.before_mb) / sessions:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
