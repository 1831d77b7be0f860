"""What the conversation server itself costs: measured against a stand-in for the model server."""

import asyncio
import base64
import itertools
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from agent.audio import RATE, read_wav, samples_in
from client.sound.clip import end_of_speech, level
from tests.drivers.model_client import recording
from tests.drivers.processes import start_server
from tests.fakes import StandIn, stand_in

FRAME_MS = 20
STAGGER_S = 0.113
FRAME_BYTES = samples_in(FRAME_MS) * 2
Json = dict[str, Any]


def relay_ms(sessions: int, replies: int) -> list[float]:
    """From the model's chunk on its socket to the client's socket, in ms, for every chunk."""
    with (
        stand_in(at_once=sessions, first_chunk_ms=100, rtf=0.5, groups=16) as model,
        # One replica a session: here nobody is to wait for anybody.
        start_server(model.url.removesuffix("/v1"), *["--model-url", model.url] * sessions) as url,
    ):
        arrived = asyncio.run(_talk(url, sessions, replies))
    late: list[float] = []
    for chat in model.chats:
        [name] = [name for name in arrived if f'"{name}"' in chat.raw.decode().split("user")[-1]]
        late += [1000 * (b - a) for a, b in zip(chat.sent_at, arrived[name][1:], strict=True)]
    return late


def first_sound_ms(seats: int, callers: int, replies: int) -> list[float]:
    """From asking to the first sound, in ms, for callers of one replica with so many seats."""
    with (
        TemporaryDirectory() as folder,
        stand_in(at_once=seats, first_chunk_ms=300, rtf=0.3, groups=16) as model,
    ):
        config = Path(folder) / "server.toml"
        config.write_text(f"[model]\nreplies_at_once = {seats}\n")
        with start_server(model.url.removesuffix("/v1"), "--config", str(config)) as url:
            arrived = asyncio.run(_talk(url, callers, replies))
    return [1000 * (first - asked) for asked, first, *_ in arrived.values()]


async def _talk(url: str, sessions: int, replies: int) -> dict[str, list[float]]:
    """Hold so many conversations; return when each question was asked and its sound came."""
    async with asyncio.TaskGroup() as tasks:
        talks = [tasks.create_task(_ask(url, number, replies)) for number in range(sessions)]
    return {name: times for talk in talks for name, times in talk.result().items()}


async def _ask(url: str, number: int, replies: int) -> dict[str, list[float]]:
    """Ask in writing, one reply after the other; return when, and when each one's sound came."""
    # Real sessions don't speak in step.
    await asyncio.sleep(number * STAGGER_S)
    arrived: dict[str, list[float]] = {}
    async with connect(f"{url}/v1/realtime", max_size=None) as socket:
        for reply in range(replies):
            name = f"question {number} {reply}"
            content = [{"type": "input_text", "text": name}]
            item = {"type": "message", "role": "user", "content": content}
            await _send(socket, {"type": "conversation.item.create", "item": item})
            await _send(socket, {"type": "response.create"})
            arrived[name] = [time.monotonic()]
            async for frame in socket:
                now = time.monotonic()
                kind = json.loads(frame)["type"]
                if kind == "response.output_audio.delta":
                    arrived[name].append(now)
                if kind == "response.done":
                    break
    return arrived


def barge_in_ms(times: int) -> tuple[list[float], list[float]]:
    """Interrupt so many replies by voice.

    Returns:
        From the onset of the interrupting speech, in ms: until the last sound that the server
        sent of the reply, and until the model server saw its request closed.
    """
    with (
        stand_in(first_chunk_ms=300, rtf=0.5, groups=121) as model,
        start_server(model.url.removesuffix("/v1")) as url,
    ):
        return asyncio.run(_interrupt(url, model, times))


class Mouth:
    """Speaks in real time; silence where there is nothing to say."""

    def __init__(self, socket: ClientConnection):
        self._socket = socket
        self._waiting = b""
        self._onset = 0
        self.onset_at = 0.0
        self.ends_at = 0.0

    def say(self, name: str) -> None:
        sound = np.frombuffer(read_wav(recording(name)), np.int16)
        frames = sound[: len(sound) // 480 * 480].reshape(-1, 480)
        loudest = max(map(level, frames))
        self._onset = next(i for i, frame in enumerate(frames) if level(frame) > loudest / 20)
        self._waiting = sound.tobytes()
        self.ends_at = time.monotonic() + end_of_speech(sound) / RATE

    async def speak(self) -> None:
        began = time.monotonic()
        for frame in itertools.count(1):
            await asyncio.sleep(max(0.0, began + frame * FRAME_MS / 1000 - time.monotonic()))
            pcm, self._waiting = self._waiting[:FRAME_BYTES], self._waiting[FRAME_BYTES:]
            if pcm:
                # A frame is sent when its last sample was spoken.
                self._onset -= 1
                if self._onset == -1:
                    self.onset_at = time.monotonic() - FRAME_MS / 1000
            audio = base64.b64encode(pcm.ljust(FRAME_BYTES, b"\0")).decode()
            await _send(self._socket, {"type": "input_audio_buffer.append", "audio": audio})


@asynccontextmanager
async def _conversation(url: str) -> AsyncGenerator[tuple[ClientConnection, Mouth]]:
    async with connect(f"{url}/v1/realtime", max_size=None) as socket:
        mouth = Mouth(socket)
        speaking = asyncio.create_task(mouth.speak())
        try:
            yield socket, mouth
        finally:
            speaking.cancel()


async def _interrupt(url: str, model: StandIn, times: int) -> tuple[list[float], list[float]]:
    sound_ms: list[float] = []
    request_ms: list[float] = []
    for time_of in range(times):
        async with _conversation(url) as (socket, mouth):
            mouth.say("weather_question.wav")
            await _until(socket, "response.output_audio.delta")
            await asyncio.sleep(0.5 + 0.13 * (time_of % 7))
            request = model.chats[-1]
            mouth.say("LJ001-0004.wav")
            last = await _last_sound(socket)
            sound_ms.append(1000 * max(0.0, last - mouth.onset_at))
            model.wait(lambda request=request: request.ended_at is not None)
            request_ms.append(1000 * ((request.ended_at or 0.0) - mouth.onset_at))
    return sound_ms, request_ms


async def _until(socket: ClientConnection, kind: str) -> None:
    async for frame in socket:
        if json.loads(frame)["type"] == kind:
            return


async def _last_sound(socket: ClientConnection) -> float:
    last = 0.0
    async for frame in socket:
        match json.loads(frame)["type"]:
            case "response.output_audio.delta":
                last = time.monotonic()
            case "response.done":
                break
            case _:
                pass
    return last


async def _send(socket: ClientConnection, event: Json) -> None:
    await socket.send(json.dumps(event))
