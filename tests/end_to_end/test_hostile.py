"""Hostile clients: a real server answers or ignores whatever comes, and goes on."""

import asyncio
import base64
import json
import random
import subprocess
import sys
from collections.abc import AsyncGenerator, Coroutine, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

import msgspec
import pytest
from openai.types.realtime import ConversationItemInputAudioTranscriptionFailedEvent
from pydantic import TypeAdapter
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from agent.audio import RATE, SAMPLE_BYTES, read_wav
from agent.errors import ProtocolError
from agent.realtime import client_events as protocol
from agent.realtime.config import Json
from tests.drivers.processes import ROOT, memory_mb
from tests.drivers.website import served

pytestmark = pytest.mark.system

TRANSCRIPTION_FAILED = TypeAdapter(ConversationItemInputAudioTranscriptionFailedEvent)
REPLY = (ROOT / "tests" / "golden" / "wire" / "stream_pcm16.raw").read_bytes()
QUESTION = read_wav((ROOT / "tests" / "data" / "weather_question.wav").read_bytes())
SECOND = bytes(RATE * SAMPLE_BYTES)
MESSAGES = 10_000
MEGABYTE = 2**20


class Model(BaseHTTPRequestHandler):
    """Says the same to everyone, in the recorded bytes of a real model server."""

    def do_POST(self) -> None:
        with suppress(ConnectionError):
            self.rfile.read(int(self.headers["content-length"]))
            self.wfile.write(REPLY)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def model_url() -> Generator[str, None, None]:
    with served(Model) as url:
        yield f"{url}/v1"


@dataclass(frozen=True)
class Server:
    url: str
    pid: int


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server, None, None]:
    """One server for all attacks, which must never meet an error of its own."""
    log = tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-m", "client.cli", "serve", "--port", "0", "--model-url"]
    with (
        model_url() as url,
        log.open("w") as errors,
        subprocess.Popen(
            [*command, url, "--transcription-url", url],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("listening on "), log.read_text()
        yield Server(first.removeprefix("listening on ").strip(), process.pid)
        process.terminate()
        assert process.wait(10) == 0
    assert "Traceback" not in log.read_text(), log.read_text()


def append(pcm: bytes) -> str:
    audio = base64.b64encode(pcm).decode()
    return json.dumps({"type": "input_audio_buffer.append", "audio": audio})


MARKER = json.dumps(
    {"type": "conversation.item.retrieve", "item_id": "nothing", "event_id": "marker"}
)
"""Its error comes when everything before it has been dealt with."""


async def events(client: ClientConnection) -> AsyncGenerator[Json, None]:
    async for frame in client:
        event = msgspec.json.decode(frame, type=Json)
        assert event["event_id"]
        yield event


def is_marker(event: Json) -> bool:
    return event["type"] == "error" and '"event_id": "marker"' in json.dumps(event["error"])


async def ask_aloud(client: ClientConnection) -> dict[str, Json]:
    """Set turn detection anew and ask the recorded question.

    Returns:
        What came until the answer was over: the last event of each type.
    """
    detection = {"type": "server_vad"}
    session = {
        "type": "realtime",
        "output_modalities": ["audio"],
        "audio": {"input": {"turn_detection": detection}},
    }
    await client.send(json.dumps({"type": "session.update", "session": session}))
    await client.send(json.dumps({"type": "input_audio_buffer.clear"}))
    sound = SECOND + QUESTION + SECOND
    for start in range(0, len(sound), 9_600):
        await client.send(append(sound[start : start + 9_600]))
    told: dict[str, Json] = {}
    async for event in events(client):
        told[str(event["type"])] = event
        if event["type"] == "response.done" and "input_audio_buffer.committed" in told:
            assert '"completed"' in json.dumps(event)
            return told
    raise AssertionError(f"the server hung up after {list(told)[-5:]}")


def run(attack: Coroutine[None, None, None]) -> None:
    # What the server could just read and echo must not be too deep for this side.
    sys.setrecursionlimit(2 * sys.getrecursionlimit())
    try:
        asyncio.run(asyncio.wait_for(attack, 60))
    finally:
        sys.setrecursionlimit(sys.getrecursionlimit() // 2)


# --- garbage --------------------------------------------------------------------------------

ITEM = {
    "type": "message",
    "id": "a",
    "role": "user",
    "content": [{"type": "input_text", "text": "Hi?"}, {"type": "input_audio", "audio": "AAAA"}],
}
SESSION: Json = {
    "type": "realtime",
    "instructions": "Be brief.",
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "transcription": None,
            "turn_detection": {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 500},
        },
        "output": {"voice": "any", "speed": 1.0},
    },
    "tools": [{"type": "function", "name": "f", "parameters": {}}],
    "max_output_tokens": "inf",
}
VALID: list[Json] = [
    {"type": "session.update", "session": SESSION},
    {"type": "input_audio_buffer.append", "audio": "AAAAAAAA", "event_id": "e"},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    {"type": "conversation.item.create", "item": ITEM, "previous_item_id": "root"},
    {"type": "conversation.item.retrieve", "item_id": "a"},
    {"type": "conversation.item.truncate", "item_id": "a", "content_index": 0, "audio_end_ms": 9},
    {"type": "conversation.item.delete", "item_id": "a"},
    {"type": "response.create", "response": {"metadata": {"a": "b"}, "instructions": None}},
    {"type": "response.cancel", "response_id": "resp_1"},
    {"type": "output_audio_buffer.clear"},
]
JUNK: list[object] = [
    *(None, True, False, 0, -1, 2**63, 10**30, 1e308, -0.5, "", "\0", "\U0001f600", "x" * 5_000),
    *([], {}, [[]], {"": {}}, ["audio", "audio"], "root", "inf", "audio/pcm", "server_vad", "AAA="),
]


def spoiled(chance: random.Random, value: object) -> object:
    """Change one thing somewhere in a value."""
    match value:
        case dict() if value and chance.random() < 0.8:
            changed: dict[object, object] = dict(value)  # pyright: ignore[reportUnknownArgumentType]
            key = chance.choice(list(changed))
            match chance.randrange(6):
                case 0:
                    del changed[key]
                case 1:
                    changed[f"x{key}"] = changed[key]
                case _:
                    changed[key] = spoiled(chance, changed[key])
            return changed
        case list() if value and chance.random() < 0.8:
            several: list[object] = list(value)  # pyright: ignore[reportUnknownArgumentType]
            place = chance.randrange(len(several))
            several[place] = spoiled(chance, several[place])
            return several * chance.choice([1, 1, 3])
        case _:
            return chance.choice(JUNK)


def garbage(seed: int) -> Iterator[str | bytes]:
    """Valid events, spoiled ones, cut and scrambled text, bare JSON, deep nesting, binary."""
    chance = random.Random(seed)
    while True:
        event = chance.choice(VALID)
        text = json.dumps(event)
        cut = chance.randrange(len(text))
        match chance.randrange(12):
            case 0:
                yield text
            case 1:
                yield text[:cut]
            case 2:
                yield text[:cut] + chr(chance.randrange(0x20, 0x800)) + text[cut + 1 :]
            case 3:
                yield chance.randbytes(chance.randrange(40))
            case 4:
                yield json.dumps(chance.choice(JUNK))
            case 5:
                depth = chance.choice([2, 50, 900, 980, 1_100, 20_000])
                nested = f'{{"type":"response.create","response":{{"metadata":{"[" * depth}'
                yield nested + "]" * depth + "}}"
            case 6:
                depth = chance.randrange(960, 1_000)
                deep = '{"a":' * depth + "1" + "}" * depth
                yield f'{{"type":"response.create","response":{{"metadata":{deep}}}}}'
            case _:
                yield json.dumps(spoiled(chance, event))


def is_refused(message: str | bytes) -> bool:
    try:
        protocol.decode(message)
    except ProtocolError:
        return True
    return isinstance(message, bytes)


def test_after_ten_thousand_messages_of_garbage_the_next_question_is_answered(server: Server):
    messages = [message for message, _ in zip(garbage(20), range(MESSAGES), strict=False)]

    async def send(client: ClientConnection) -> None:
        for message in messages:
            await client.send(message)
        await client.send(MARKER)

    async def attack() -> None:
        async with (
            connect(server.url, max_size=None) as client,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(send(client))
            errors = 0
            async for event in events(client):
                errors += event["type"] == "error"
                if is_marker(event):
                    break
            assert errors > sum(map(is_refused, messages)) > MESSAGES / 3
            assert "response.output_audio.delta" in await ask_aloud(client)

    run(attack())


# --- floods ---------------------------------------------------------------------------------


def test_a_client_that_sends_and_never_reads_is_held_back_and_disturbs_nobody(server: Server):
    session = {"type": "realtime", "instructions": "x" * 100_000}
    wish = json.dumps({"type": "session.update", "session": session})
    sent = 0

    async def flood(client: ClientConnection) -> None:
        nonlocal sent
        for _ in range(5_000):
            await client.send(wish)
            sent += 1

    async def attack() -> None:
        before_mb = memory_mb(server.pid)
        async with connect(server.url) as flooding, connect(server.url) as client:
            task = asyncio.create_task(flood(flooding))
            known = -1
            while sent > known:
                known = sent
                await ask_aloud(client)
            assert not task.done(), "nothing held it back"
            assert memory_mb(server.pid) - before_mb < 100
            task.cancel()
            flooding.transport.abort()

    run(attack())


def test_fifteen_mebibytes_in_one_append_are_heard_while_others_are_served(server: Server):
    sound = (SECOND + QUESTION + SECOND).ljust(15 * MEGABYTE, b"\0")

    async def attack() -> None:
        async with (
            connect(server.url) as client,
            connect(server.url) as other,
        ):
            told = events(client)
            await client.send(append(sound))
            await client.send(MARKER)
            async for event in told:
                if event["type"] == "input_audio_buffer.speech_started":
                    break
            received = asyncio.create_task(anext(event async for event in told if is_marker(event)))
            for _ in range(20):
                await (await other.ping())
            assert not received.done(), "nobody was served until all of it had been heard"
            await received
            await ask_aloud(client)

    run(attack())


def test_a_frame_that_is_too_large_ends_only_its_own_connection(server: Server):
    async def attack() -> None:
        hostile = await connect(server.url)
        with suppress(ConnectionClosed):
            await hostile.send("x" * 22 * MEGABYTE)
        await hostile.wait_closed()
        assert hostile.close_code == 1009
        async with connect(server.url) as client:
            await ask_aloud(client)

    run(attack())


def test_a_recogniser_that_answers_nonsense_costs_the_transcript_and_nothing_else(server: Server):
    session: Json = {"type": "realtime", "audio": {"input": {"transcription": {}}}}
    failed = "conversation.item.input_audio_transcription.failed"

    async def attack() -> None:
        async with connect(server.url) as client:
            await client.send(json.dumps({"type": "session.update", "session": session}))
            told = await ask_aloud(client) | await ask_aloud(client)
            while failed not in told:
                event = await anext(events(client))
                told[str(event["type"])] = event
            event = TRANSCRIPTION_FAILED.validate_python(told[failed], strict=True)
            assert event.error.code == "transcription_failed"
            assert "param" not in event.error.model_fields_set, "null there is lost on some clients"

    run(attack())
