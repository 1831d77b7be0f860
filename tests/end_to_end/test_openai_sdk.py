"""The official Python SDK holds a conversation over a real socket, with a model over real HTTP."""

import asyncio
import json
import subprocess
import sys
from base64 import b64encode
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from threading import Event
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter
from websockets.asyncio.client import connect

from agent.audio import RATE, SAMPLE_BYTES, read_wav
from tests.drivers.processes import ROOT
from tests.drivers.website import served

pytestmark = pytest.mark.system

Json = dict[str, Any]
QUESTION = read_wav((ROOT / "tests" / "data" / "weather_question.wav").read_bytes())
SILENCE = bytes(RATE * SAMPLE_BYTES)
HALF_SECOND = b64encode(bytes(RATE)).decode()
OFFICIAL: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Oslo"}}</tool_call>'
WEATHER: Json = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
GONE = Event()
"""Set when the server has closed a request before its reply was over."""


class Model(BaseHTTPRequestHandler):
    """Calls a function where one is offered, tells endless stories, and else says hello."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        last = request["messages"][-1]
        if request.get("tools") and last["role"] != "tool":
            self.say(CALL[:20], "text")
            self.say(CALL[20:], "text")
        elif last["role"] == "tool":
            self.say(f"Oslo has {last['content']}.", "text")
            self.say(HALF_SECOND, "audio")
        elif "story" in json.dumps(last):
            self.tell()
        else:
            self.say("Hello there.", "text")
            self.say(HALF_SECOND, "audio")
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def tell(self) -> None:
        try:
            while True:
                self.say("and then ", "text")
                self.say(HALF_SECOND, "audio")
                GONE.wait(0.05)
        except ConnectionError:
            GONE.set()

    def say(self, content: str, modality: str) -> None:
        chunk = {"choices": [{"delta": {"content": content}}], "modality": modality}
        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def model_url() -> Generator[str, None, None]:
    with served(Model) as url:
        yield f"{url}/v1"


@pytest.fixture(scope="module")
def url() -> Generator[str, None, None]:
    command = [sys.executable, "-m", "client.cli", "serve", "--port", "0", "--model-url"]
    with (
        model_url() as model,
        subprocess.Popen(
            [*command, model],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("listening on ").strip()
        process.terminate()
        assert process.wait(10) == 0


class Talk:
    """One connection of the SDK; every event is checked against the official types."""

    def __init__(self, connection: AsyncRealtimeConnection):
        self.connection = connection
        self.seen: list[Json] = []

    async def until(self, kind: str) -> Json:
        """Read on to the next event of a kind; an error is never expected."""
        while True:
            frame = await self.connection.recv_bytes()
            OFFICIAL.validate_json(frame, strict=True)
            self.connection.parse_event(frame)
            event: Json = json.loads(frame)
            self.seen.append(event)
            assert event["type"] != "error", event
            if event["type"] == kind:
                return event

    async def done(self) -> Json:
        return (await self.until("response.done"))["response"]

    async def speak(self, pcm: bytes) -> None:
        for start in range(0, len(pcm), 9_600):
            audio = b64encode(pcm[start : start + 9_600]).decode()
            await self.connection.input_audio_buffer.append(audio=audio)

    async def write(self, text: str) -> None:
        await self.connection.conversation.item.create(
            item={
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": text}],
            }
        )


async def converse(url: str) -> None:
    client = AsyncOpenAI(api_key="any", websocket_base_url=url.removesuffix("/realtime"))
    async with client.realtime.connect(model="gpt-realtime") as connection:
        talk = Talk(connection)
        await talk.until("session.created")
        await listen_and_answer(talk)
        await call_a_function(talk)
        await interrupt(talk)
        await write_only(talk)
    await client.close()


async def listen_and_answer(talk: Talk) -> None:
    await talk.connection.session.update(
        session={
            "type": "realtime",
            "audio": {"input": {"turn_detection": {"type": "semantic_vad"}}},
        }
    )
    updated = await talk.until("session.updated")
    assert updated["session"]["audio"]["input"]["turn_detection"]["interrupt_response"] is True
    await talk.speak(SILENCE + QUESTION + SILENCE)
    done = await talk.done()
    assert done["output"][0]["content"] == [{"type": "output_audio", "transcript": "Hello there."}]


async def call_a_function(talk: Talk) -> None:
    await talk.connection.session.update(session={"type": "realtime", "tools": [WEATHER]})  # pyright: ignore[reportArgumentType]
    await talk.connection.response.create()
    (call,) = (await talk.done())["output"]
    assert (call["name"], json.loads(call["arguments"])) == ("weather", {"city": "Oslo"})
    assert len(call["call_id"]) <= 32
    await talk.connection.conversation.item.create(
        item={"type": "function_call_output", "call_id": call["call_id"], "output": "snow"}
    )
    await talk.connection.response.create()
    done = await talk.done()
    assert done["output"][0]["content"][0]["transcript"] == "Oslo has snow."
    await talk.connection.session.update(session={"type": "realtime", "tools": []})


async def interrupt(talk: Talk) -> None:
    await talk.write("Tell me a story.")
    await talk.connection.response.create()
    delta = await talk.until("response.output_audio.delta")
    await talk.speak(QUESTION)
    done = await talk.done()
    assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    await talk.connection.conversation.item.truncate(
        item_id=delta["item_id"], content_index=0, audio_end_ms=101
    )
    truncated = await talk.until("conversation.item.truncated")
    assert truncated["audio_end_ms"] == 101
    assert await asyncio.to_thread(GONE.wait, 10), "the reply that nobody wants goes on"
    await talk.speak(SILENCE)
    assert (await talk.done())["status"] == "completed"


async def write_only(talk: Talk) -> None:
    await talk.write("Hello!")
    await talk.connection.response.create(response={"output_modalities": ["text"]})
    done = await talk.done()
    assert done["output"][0]["content"] == [{"type": "output_text", "text": "Hello there."}]


def test_the_official_sdk_holds_a_conversation(url: str):
    asyncio.run(asyncio.wait_for(converse(url), 60))


async def talk_in_binary(url: str) -> None:
    async with connect(f"{url}?model=any", max_size=2**20) as socket:
        wish = {"type": "realtime", "x_mimo": {"binary_audio": True}}
        await socket.send(json.dumps({"type": "session.update", "session": wish}))
        for start in range(0, len(QUESTION + SILENCE), 9_599):
            await socket.send((QUESTION + SILENCE)[start : start + 9_599])
        pcm, kinds = b"", list[str]()
        while "response.done" not in kinds:
            frame = await socket.recv()
            if isinstance(frame, bytes):
                header, _, sound = frame.partition(b"\n")
                assert json.loads(header)["type"] == "response.output_audio.delta"
                pcm += sound
            else:
                kinds.append(json.loads(frame)["type"])
        assert pcm == bytes(RATE)
        assert "response.output_audio.delta" not in kinds
        assert "error" not in kinds


def test_sound_goes_both_ways_in_binary_frames(url: str):
    asyncio.run(asyncio.wait_for(talk_in_binary(url), 60))
