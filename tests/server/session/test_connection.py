"""A session at a model server that others need, too."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve

from agent.audio import RATE, SAMPLE_BYTES
from agent.commands import AskModel
from agent.model.output import ChatMessage, Ended, Output
from agent.realtime import client_events as protocol
from agent.session import Session
from agent.trace.inputs import Transcribed
from server.model.router import ModelRouter
from server.model.transcription import Transcriber
from server.session.connection import Connection
from server.session.ids import new_id
from server.session.socket import ClientSocket
from server.settings import checked
from server.vad import VoiceActivityDetector
from tests.drivers.virtual_call import END, FRAME, PAUSE, POLICY, opened
from tests.fakes import Fault, StandIn, stand_in

BY_HAND = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
ONSET = 3
"""Frames of speech that begin a turn."""
SPOKEN = ["speech_started", "speech_stopped", "committed"]


class Loudness(VoiceActivityDetector):
    """Takes for speech whatever isn't silence."""

    def _add(self, frame: bytes) -> None:
        self._ready.append(float(any(frame[: len(FRAME)])))


@dataclass
class Client:
    socket: ClientConnection
    connection: Connection
    """The server's end."""

    async def send(self, frames: int, frame: bytes, fragments: int = 1) -> None:
        """Send sound, as it comes from a microphone, each frame in so many fragments."""
        for _ in range(frames):
            audio = base64.b64encode(frame).decode()
            text = json.dumps({"type": "input_audio_buffer.append", "audio": audio})
            size = -(-len(text) // fragments)
            parts = [text[start : start + size] for start in range(0, len(text), size)]
            await self.socket.send(text if fragments == 1 else parts)

    async def done(self) -> str:
        """Wait for the end of a response and return its status."""
        async for line in self.socket:
            event = json.loads(line)
            if event["type"] == "response.done":
                return event["response"]["status"]
        raise AssertionError("the socket was closed")


@asynccontextmanager
async def calling(
    router: ModelRouter, vad: Callable[[], VoiceActivityDetector] = Loudness
) -> AsyncGenerator[Client]:
    """Call a server of that model."""
    transcriber = Transcriber(checked({}, "test"), router)

    made: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()

    async def one_client(socket: ServerConnection) -> None:
        assert isinstance(socket, ClientSocket)
        session = Session(opened(), POLICY, new_id)
        connection = Connection(socket, session, router.client(), transcriber, vad())
        made.set_result(connection)
        await connection.run()

    how: Any = {"create_connection": ClientSocket, "max_size": None}
    async with serve(one_client, "127.0.0.1", 0, **how) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}") as socket:
            yield Client(socket, await made)
    await router.close()


async def reply(router: ModelRouter) -> Output:
    """Let somebody else ask."""
    question = AskModel("resp_1", [ChatMessage("user", "Hello.")], "audio", None)
    return [output async for output in router.client().reply(question)][-1]


async def seen(model: StandIn, chats: int) -> None:
    await asyncio.to_thread(model.wait, lambda: len(model.chats) == chats)


def run(body: Callable[[ModelRouter], Coroutine[None, None, None]]) -> None:
    """Do something at a model server that only has to be there."""
    with stand_in() as model:
        settings = checked({"model": {"urls": [model.url]}}, "test")

        async def bounded() -> None:
            await asyncio.wait_for(body(ModelRouter(settings)), 30)

        asyncio.run(bounded())


def test_a_reply_that_gave_way_in_a_pause_is_asked_for_once_more_when_the_turn_is_over():
    async def body() -> None:
        router = ModelRouter(settings)
        async with calling(router) as client, asyncio.TaskGroup() as tasks:
            model.faults.extend([Fault.STALL_FIRST, Fault.STALL_MIDWAY])
            running = tasks.create_task(reply(router))
            await seen(model, 1)
            await client.send(20, b"\1" * len(FRAME))
            # A frame is judged once the next has begun.
            await client.send(PAUSE + 1, bytes(len(FRAME)))
            await seen(model, 2)
            assert isinstance(await reply(router), Ended)
            assert model.chats[1].ended == "closed"
            await client.send(END - PAUSE, bytes(len(FRAME)))
            assert await client.done() == "completed"
            assert len(model.chats) == 4
            running.cancel()

    with stand_in(at_once=3) as model:
        settings = checked({"model": {"urls": [model.url], "replies_at_once": 2}}, "test")
        asyncio.run(asyncio.wait_for(body(), 30))


def test_a_reply_that_was_prepared_in_a_pause_is_kept_when_the_turn_is_over():
    async def body() -> None:
        router = ModelRouter(settings)
        async with calling(router) as client, asyncio.TaskGroup() as tasks:
            model.faults.extend([Fault.STALL_FIRST, None])
            running = tasks.create_task(reply(router))
            await seen(model, 1)
            await client.send(20, b"\1" * len(FRAME))
            # A frame is judged once the next has begun.
            await client.send(PAUSE + 1, bytes(len(FRAME)))
            await seen(model, 2)
            await client.send(END - PAUSE, bytes(len(FRAME)))
            await until_created(client)
            other = tasks.create_task(reply(router))
            assert await client.done() == "completed"
            assert isinstance(await other, Ended)
            assert model.chats[1].ended == "finished"
            running.cancel()

    async def until_created(client: Client) -> None:
        async for line in client.socket:
            if json.loads(line)["type"] == "response.created":
                return

    with stand_in(at_once=3, first_chunk_ms=300) as model:
        settings = checked({"model": {"urls": [model.url], "replies_at_once": 2}}, "test")
        asyncio.run(asyncio.wait_for(body(), 30))


def test_sound_is_judged_before_whatever_the_client_sends_after_it():
    class Late(Loudness):
        """Judges when it must."""

        def __init__(self) -> None:
            super().__init__()
            self._late: list[bytes] = []

        def _add(self, frame: bytes) -> None:
            self._late.append(frame)

        def judge_waiting(self) -> None:
            late, self._late = self._late, []
            for frame in late:
                super()._add(frame)

    async def body(router: ModelRouter) -> None:
        async with calling(router, Late) as client:
            await client.send(20, b"\1" * len(FRAME))
            await client.socket.send('{"type": "input_audio_buffer.commit"}')
            kinds = list[str]()
            while "conversation.item.done" not in kinds:
                kinds.append(json.loads(await client.socket.recv())["type"])
            heard = [kind for kind in kinds if kind.startswith("input_audio_buffer.")]
            assert heard == [f"input_audio_buffer.{what}" for what in SPOKEN]

    run(body)


def test_messages_are_taken_in_order_whole_or_in_fragments():
    async def body(router: ModelRouter) -> None:
        async with calling(router) as client:
            for number in range(20):
                await client.send(1, b"\1" * len(FRAME), fragments=1 + number % 3)
            await client.socket.send(["", '{"type": "input_audio_buffer', '.commit"}'])
            async for line in client.socket:
                event = json.loads(line)
                if event["type"] == "input_audio_buffer.speech_stopped":
                    assert event["audio_end_ms"] == 20 * len(FRAME) // SAMPLE_BYTES / RATE * 1000
                    return

    run(body)


def test_a_message_in_fragments_comes_before_the_one_behind_it():
    async def body(router: ModelRouter) -> None:
        async with calling(router) as client:
            audio = base64.b64encode(20 * FRAME).decode()
            sound = json.dumps({"type": "input_audio_buffer.append", "audio": audio}).encode()
            update = {"type": "session.update", "session": BY_HAND}
            await client.socket.send(json.dumps(update))
            while json.loads(await client.socket.recv())["type"] != "session.updated":
                pass
            client.socket.protocol.send_text(sound[:100], fin=False)
            client.socket.protocol.send_continuation(sound[100:], fin=True)
            client.socket.protocol.send_text(b'{"type": "input_audio_buffer.commit"}')
            # In one piece, as a network may deliver them.
            client.socket.send_data()
            kinds = list[str]()
            while "conversation.item.done" not in kinds:
                kinds.append(json.loads(await client.socket.recv())["type"])
                assert kinds[-1] != "error"

    run(body)


def test_text_that_is_none_closes_the_connection():
    async def body(router: ModelRouter) -> None:
        async with calling(router) as client:
            await client.send(1, FRAME)
            await client.socket.send(b'{"type": "\xff"}', text=True)
            await client.socket.wait_closed()
            assert client.socket.close_code == 1007

    run(body)


@pytest.mark.parametrize("frames", [1, 30], ids=["one frame", "a clip"])
def test_a_detector_that_fails_ends_its_session_and_no_other(frames: int):
    class Broken(Loudness):
        def _add(self, frame: bytes) -> None:
            if any(frame):
                raise ArithmeticError("broken")
            super()._add(frame)

    async def body(router: ModelRouter) -> None:
        async with calling(router, Broken) as one, calling(router, Broken) as other:
            for each in (one, other):
                await each.send(2, FRAME)
            await one.send(2, frames * b"\1" * len(FRAME))
            await one.socket.wait_closed()
            assert one.socket.close_code == 1011
            await other.send(2, FRAME)
            await other.socket.send('{"type": "input_audio_buffer.clear"}')
            async for line in other.socket:
                if json.loads(line)["type"] == "input_audio_buffer.cleared":
                    return

    run(body)


def test_what_was_decided_on_the_spot_is_done_before_what_comes_behind_it():
    class Crowded(Loudness):
        """While it judges the frame that is the onset, something else comes for the session."""

        def _add(self, frame: bytes) -> None:
            super()._add(frame)
            judged.append(frame)
            if len(judged) == ONSET:
                inbox = connections[0]._inbox  # pyright: ignore[reportPrivateUsage]
                inbox.put_now(Transcribed("item_none", "Hello.", 1.0))

    judged: list[bytes] = []
    connections: list[Connection] = []

    async def body(router: ModelRouter) -> None:
        async with calling(router, Crowded) as client:
            assert json.loads(await client.socket.recv())["type"] == "session.created"
            connections.append(client.connection)
            # A frame is judged once the next has begun.
            await client.send(ONSET + 1, b"\1" * len(FRAME))
            heard = [json.loads(await client.socket.recv())["type"] for _ in range(3)]
            transcribed = "conversation.item.input_audio_transcription"
            assert heard == [
                "input_audio_buffer.speech_started",
                f"{transcribed}.delta",
                f"{transcribed}.completed",
            ]

    run(body)


def test_a_large_append_is_taken_before_what_comes_behind_it(monkeypatch: pytest.MonkeyPatch):
    read, reading = protocol.decode_in_steps, asyncio.Event()

    def slowly(frame: str) -> Generator[None, None, protocol.AnyClientEvent]:
        reading.set()
        # The next message has come long before the last of these.
        yield from [None] * 1_000
        return (yield from read(frame))

    monkeypatch.setattr(protocol, "decode_in_steps", slowly)

    async def body(router: ModelRouter) -> None:
        async with calling(router) as client:
            await client.socket.send(json.dumps({"type": "session.update", "session": BY_HAND}))
            sound = bytes(range(256)) * 2**13
            await client.send(1, sound)
            await reading.wait()
            await client.socket.send('{"type": "input_audio_buffer.commit"}')
            await client.socket.send('{"type": "input_audio_buffer.commit"}')
            kinds = list[str]()
            while "error" not in kinds:
                kinds.append(json.loads(await client.socket.recv())["type"])
            assert kinds.count("input_audio_buffer.committed") == 1
            [item] = client.connection._session._conversation.render("")  # pyright: ignore[reportPrivateUsage]
            assert item.pcm == sound

    run(body)
