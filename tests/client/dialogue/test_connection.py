"""Connections that come back: a scripted server on a real socket that drops them."""

import asyncio
import base64
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import cast
from urllib.parse import parse_qsl, urlsplit

import msgspec
import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve

from agent.audio import RATE, SAMPLE_BYTES
from client.dialogue.call import Call
from client.dialogue.connection import KEPT_BYTES, Connection, Lost, open_connection
from client.dialogue.events import SpeechStarted, SpeechStopped, full_url, page_url
from client.dialogue.jitter import Heard
from client.dialogue.latency import Latency
from client.dialogue.socket import UnreachableError
from client.live import TOO_SHORT, Live, LiveOptions
from client.sound.duplex import Duplex
from client.terminal import push_to_talk
from client.terminal.view import Speaker, Status

Event = dict[str, object]
Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's side of one connection."""

    def __init__(self, socket: ServerConnection, query: dict[str, str]):
        self.socket = socket
        self.query = query
        self.received: list[Event] = []

    async def greet(self, session_id: str, **extensions: object) -> None:
        """Begin a session, and agree to what is asked for."""
        session = {"id": session_id, "x_mimo": extensions}
        await self.send({"type": "session.created", "session": {"id": session_id}})
        await self.receive("session.update")
        await self.send({"type": "session.updated", "session": session})

    async def send(self, *events: Event) -> None:
        for event in events:
            await self.socket.send(msgspec.json.encode(event).decode())

    async def receive(self, kind: str) -> Event:
        while True:
            self.received.append(msgspec.json.decode(await self.socket.recv(), type=Event))
            if self.received[-1]["type"] == kind:
                return self.received[-1]

    async def hear(self, count: int) -> bytes:
        """Take so many bytes of speech."""
        heard = bytearray()
        while len(heard) < count:
            event = await self.receive("input_audio_buffer.append")
            heard += base64.b64decode(cast(str, event["audio"]))
        return bytes(heard)

    def drop(self) -> None:
        """Cut the line, without a word."""
        self.socket.transport.abort()


class Shown:
    """A view that remembers."""

    def __init__(self) -> None:
        self.connections: list[str] = []
        self.news: asyncio.Queue[str] = asyncio.Queue()
        self.problems: list[str] = []
        self.captions: list[tuple[Speaker, str]] = []
        self.notes: list[str] = []

    def caption(self, who: Speaker, text: str, *, cut: bool = False) -> None:
        self.captions.append((who, f"{text} —" if cut else text))

    def partial(self, text: str) -> None: ...
    def interrupted(self, heard: Heard) -> None: ...
    def turn(self, number: int, name: str | None, latency: Latency) -> None: ...
    def status(self, status: Status) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)

    def connection(self, state: str) -> None:
        self.connections.append(state)
        self.news.put_nowait(state)

    def problem(self, text: str) -> None:
        self.problems.append(text)


@asynccontextmanager
async def server(*scripts: Script) -> AsyncGenerator[tuple[str, list[Peer]]]:
    """Meet each next connection with the next script."""
    peers: list[Peer] = []

    async def meet(socket: ServerConnection) -> None:
        assert socket.request is not None
        query = dict(parse_qsl(urlsplit(socket.request.path).query))
        peers.append(Peer(socket, query))
        await scripts[len(peers) - 1](peers[-1])

    async with serve(meet, "127.0.0.1", 0, close_timeout=1) as listening:
        port = cast(int, next(iter(listening.sockets)).getsockname()[1])
        yield f"ws://127.0.0.1:{port}", peers


def at_once() -> Iterator[float]:
    while True:
        yield 0.0


async def until_ended(url: str, shown: Shown, use: Callable[[Connection, Call], Awaitable[None]]):
    """Hold a call until the server ends it."""
    clock = asyncio.get_running_loop().time
    async with open_connection(url, at_once) as connection:
        await connection.start_session(None)
        call = Call(connection, shown, clock, clock, int, duck_db=-15.0)
        following = asyncio.create_task(call.receive())
        await use(connection, call)
        with pytest.raises(UnreachableError, match="ended the conversation"):
            await following


async def nothing(_connection: Connection, _call: Call) -> None:
    pass


def audio(item_id: str, samples: int) -> Event:
    delta = base64.b64encode(np.full(samples, 1000, "<i2").tobytes()).decode()
    ids = {"response_id": "resp_1", "item_id": item_id}
    return {"type": "response.output_audio.delta", **ids, "delta": delta}


def words(delta: str) -> Event:
    kind = "response.output_audio_transcript.delta"
    return {"type": kind, "response_id": "resp_1", "item_id": "answer_1", "delta": delta}


def said(item_id: str, text: str) -> Event:
    kind = "conversation.item.input_audio_transcription.completed"
    return {"type": kind, "item_id": item_id, "transcript": text}


def test_the_path_and_the_query_are_added_to_what_the_address_has():
    assert full_url("ws://box:8080") == "ws://box:8080/v1/realtime"
    assert full_url("ws://box/v1/realtime?model=any", resume="a b") == (
        "ws://box/v1/realtime?model=any&resume=a+b"
    )
    assert full_url("ws://box/else/") == "ws://box/else/"


@pytest.mark.parametrize(
    ("url", "full"),
    [
        ("http://box:8080", "ws://box:8080/v1/realtime"),
        ("https://box/", "wss://box/v1/realtime"),
        ("https://box/voice/", "wss://box/voice/v1/realtime"),
        ("http://box/voice/v1/realtime?model=any", "ws://box/voice/v1/realtime?model=any"),
        ("http://box:8080/v1", "ws://box:8080/v1/realtime"),
    ],
)
def test_the_address_of_a_page_leads_to_its_conversations(url: str, full: str):
    assert full_url(url) == full
    assert page_url(url) == page_url(full)


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("ws://box:8080", "http://box:8080/"),
        ("ws://box/v1/realtime?model=any", "http://box/"),
        ("wss://box/voice/v1/realtime", "https://box/voice/"),
        ("wss://box/voice/realtime", "https://box/voice/"),
        ("wss://box/voice/", "https://box/voice/"),
    ],
)
def test_the_pages_are_in_the_folder_of_the_address(url: str, page: str):
    assert page_url(url) == page


def test_a_dropped_session_goes_on_where_the_sound_broke_off():
    async def first(peer: Peer) -> None:
        await peer.greet("sess_1", resume_token="token_1", playout=True)
        await peer.send(audio("answer_1", 4800), audio("answer_1", 700))
        await peer.hear(10)
        peer.drop()

    async def second(peer: Peer) -> None:
        await peer.greet("sess_1", resume_token="token_2")
        goes_on = {"item_id": "answer_1", "audio_start_samples": 5400}
        await peer.send({"type": "x_mimo.resumed", **goes_on}, audio("answer_1", 400))
        await peer.hear(10)
        peer.drop()

    async def third(peer: Peer) -> None:
        await peer.greet("sess_1")

    async def use(connection: Connection, call: Call) -> None:
        while call.jitter.buffered < 5800:
            await connection.append(b"\x01\x00" * 5)
            await asyncio.sleep(0)

    async def run() -> None:
        async with server(first, second, third) as (url, peers):
            await until_ended(url, shown, use)
            assert [peer.query for peer in peers] == [
                {},
                {"resume": "token_1", "item_id": "answer_1", "received_samples": "5500"},
                {"resume": "token_2", "item_id": "answer_1", "received_samples": "5800"},
            ]
            assert not any("conversation.item.create" in str(peer.received) for peer in peers)

    shown = Shown()
    asyncio.run(run())
    assert shown.problems == []
    assert shown.connections == ["Reconnecting…", "", "Reconnecting…", ""]


def test_a_server_that_forgot_the_session_is_told_what_was_said_and_heard():
    calls: list[Call] = []

    async def first(peer: Peer) -> None:
        await peer.greet("sess_1", resume_token="token_1")
        await peer.send(
            said("item_1", "How are you?"),
            *(words("Fine. "), audio("answer_1", RATE), words("And you?"), audio("answer_1", RATE)),
        )
        await peer.hear(10)
        peer.drop()

    async def second(peer: Peer) -> None:
        await peer.greet("sess_2")
        await peer.receive("conversation.item.create")
        await peer.receive("conversation.item.create")

    async def use(connection: Connection, call: Call) -> None:
        calls.append(call)
        while not call.jitter.played("answer_1"):
            call.pull(np.zeros(RATE, np.int16))
            await asyncio.sleep(0)
        await connection.append(bytes(10))

    async def run() -> list[Event]:
        async with server(first, second) as (url, peers):
            await until_ended(url, shown, use)
            return [event for event in peers[1].received if "item" in event]

    shown = Shown()
    created = [cast(Event, event["item"]) for event in asyncio.run(run())]
    assert [(item["role"], item["content"]) for item in created] == [
        ("user", [{"type": "input_text", "text": "How are you?"}]),
        ("assistant", [{"type": "output_text", "text": "Fine."}]),
    ]
    assert shown.captions == [("user", "How are you?"), ("agent", "Fine. —")]
    assert calls[0].jitter.buffered == 0


@pytest.mark.parametrize("resumed", [True, False])
def test_what_is_written_while_the_connection_is_away_is_sent_once_it_is_back(resumed: bool):
    back = asyncio.Event()

    async def first(peer: Peer) -> None:
        await peer.greet("sess_1", resume_token="token_1")
        await peer.send(
            said("item_1", "How are you?"), {"type": "input_audio_buffer.speech_started"}
        )
        peer.drop()

    async def second(peer: Peer) -> None:
        await back.wait()
        await peer.greet("sess_1" if resumed else "sess_2")
        await peer.receive("response.create")
        answer = {"id": "resp_1", "status": "completed"}
        await peer.send({"type": "response.done", "response": answer})

    async def use(connection: Connection, call: Call) -> None:
        assert await shown.news.get() == "Reconnecting…"
        await call.say("Never mind.")
        # The server has answered, but not begun a session.
        answers = False
        while not answers:
            answers = await connection.send("x_mimo.playout")
            await asyncio.sleep(0)
        await call.say("What time is it?")
        assert shown.notes == ["Not sent yet: Never mind.", "Not sent yet: What time is it?"]
        assert ("user", "Never mind.") not in shown.captions
        back.set()

    async def run() -> list[object]:
        async with asyncio.timeout(5), server(first, second) as (url, peers):
            await until_ended(url, shown, use)
            sent = [sent_as(event) for event in peers[1].received]
            return sent[sent.index("session.update") + 1 :]

    shown = Shown()
    written = ["Never mind.", "What time is it?", "response.create"]
    history = ["response.cancel"] if resumed else ["How are you?"]
    assert asyncio.run(run()) == history + written
    assert shown.captions == [("user", text) for text in ("How are you?", *written[:2])]


def sent_as(event: Event) -> object:
    """The text of a message, or the type of any other event."""
    item = cast(dict[str, list[Event]], event.get("item", {}))
    return item["content"][0]["text"] if item else event["type"]


def test_what_is_written_as_the_connection_is_lost_is_sent_once_it_is_back():
    async def first(peer: Peer) -> None:
        await peer.greet("sess_1")
        await peer.receive("response.cancel")
        peer.drop()

    async def second(peer: Peer) -> None:
        await peer.greet("sess_2")
        await peer.receive("response.create")

    async def run() -> list[object]:
        async with (
            asyncio.timeout(5),
            server(first, second) as (url, peers),
            open_connection(url, at_once) as connection,
        ):
            await connection.start_session(None)
            clock = asyncio.get_running_loop().time
            call = Call(connection, shown, clock, clock, int, duck_db=-15.0)
            is_there = True
            while is_there:
                is_there = await connection.send("response.cancel")
                await asyncio.sleep(0)
            assert not connection.is_away
            await call.say("Hello?")
            with pytest.raises(UnreachableError, match="ended the conversation"):
                await call.receive()
            return [sent_as(event) for event in peers[1].received[1:]]

    shown = Shown()
    assert asyncio.run(run()) == ["Hello?", "response.create"]
    assert shown.notes == ["Not sent yet: Hello?"]


def test_what_is_written_before_there_is_a_connection_is_marked_as_not_sent():
    shown = Shown()
    live = Live(cast(Duplex, None), LiveOptions(None, 0.0, None), shown)
    asyncio.run(live.say("Hello?"))
    assert shown.notes == ["Not sent, as there is no connection yet: Hello?"]


@pytest.mark.parametrize("slipped", [True, False])
def test_only_a_key_that_was_held_for_a_word_has_it_answered(
    slipped: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(push_to_talk, "REPEAT_S", 0.0)
    monkeypatch.setattr(push_to_talk, "LEAST_S", 3600.0 if slipped else 0.0)

    async def script(peer: Peer) -> None:
        await peer.greet("sess_1")
        await peer.receive("session.update")
        await peer.receive("input_audio_buffer.append")
        await peer.receive("input_audio_buffer.clear" if slipped else "response.create")

    async def run() -> list[object]:
        async with server(script) as (url, peers):
            talking = asyncio.create_task(live.converse(url))
            await shown.news.get()
            await live.toggle_push_to_talk()
            await live.push()
            await live.push()
            await live.hear(bytes(960), 0.0)
            with pytest.raises(UnreachableError):
                await talking
            return [event["type"] for event in peers[0].received[-2:]]

    shown = Shown()
    ends = SimpleNamespace(delay_samples=int, heard=0.0, played=0.0, is_safe=True)
    live = Live(cast(Duplex, ends), LiveOptions(None, 0.0, None), shown)
    sent = asyncio.run(run())
    assert (sent[-1] == "input_audio_buffer.clear") == slipped == (shown.problems == [TOO_SHORT])


def test_what_was_changed_of_the_sound_holds_after_a_gap():
    async def first(peer: Peer) -> None:
        await peer.greet("sess_1", resume_token="token_1")
        for _ in range(2):
            await peer.receive("session.update")
        peer.drop()

    async def second(peer: Peer) -> None:
        await peer.greet("sess_2")
        for _ in range(2):
            await peer.receive("session.update")

    async def use(connection: Connection, _call: Call) -> None:
        await connection.change("input", turn_detection=None)
        await connection.change("output", voice="bright")

    async def run() -> list[object]:
        async with asyncio.timeout(5), server(first, second) as (url, peers):
            await until_ended(url, Shown(), use)
            return [cast(Event, event["session"])["audio"] for event in peers[1].received[1:]]

    assert asyncio.run(run()) == [
        {"input": {"turn_detection": None}},
        {"output": {"voice": "bright"}},
    ]


def test_a_voice_that_the_server_does_not_have_is_refused_with_those_that_it_has():
    async def script(peer: Peer) -> None:
        await peer.greet("sess_1", voices=["anna", "default"])
        await peer.receive("session.update")

    async def use(connection: Connection, call: Call) -> None:
        while not connection.agreed.voices:
            await connection.append(b"\x01\x00")
            await asyncio.sleep(0)
        await call.use_voice("anne")
        await call.use_voice("anna")

    async def run() -> list[Event]:
        async with asyncio.timeout(5), server(script) as (url, peers):
            await until_ended(url, shown, use)
            return peers[0].received[-1:]

    shown = Shown()
    voice = {"type": "realtime", "audio": {"output": {"voice": "anna"}}}
    assert asyncio.run(run()) == [{"type": "session.update", "session": voice}]
    assert shown.problems == ["There is no voice “anne” here; there are: anna, default."]


def test_a_server_whose_first_word_cannot_be_read_is_asked_again():
    async def first(peer: Peer) -> None:
        await peer.greet("sess_1")
        peer.drop()

    async def second(peer: Peer) -> None:
        await peer.socket.send("<html>starting</html>")
        await peer.socket.wait_closed()

    async def third(peer: Peer) -> None:
        await peer.greet("sess_1")

    async def run() -> int:
        async with asyncio.timeout(5), server(first, second, third) as (url, peers):
            await until_ended(url, Shown(), nothing)
            return len(peers)

    assert asyncio.run(run()) == 3


def test_what_was_not_understood_is_said_and_a_wish_that_came_too_late_is_not():
    codes = ("response_cancel_not_active", "item_truncate_invalid_item_id")
    late: list[Event] = [{"type": "error", "error": {"code": code}} for code in codes]
    kind = "conversation.item.input_audio_transcription.failed"

    async def script(peer: Peer) -> None:
        await peer.greet("sess_1")
        await peer.send({"type": kind, "item_id": "item_1"}, *late)

    async def run() -> Shown:
        shown = Shown()
        async with server(script) as (url, _):
            await until_ended(url, shown, nothing)
        return shown

    shown = asyncio.run(run())
    assert shown.captions == [("user", "(could not be transcribed)")]
    assert shown.problems == []


def test_speech_of_a_gap_is_kept_and_sent_first_the_newest_ten_seconds_of_it():
    back = asyncio.Event()

    async def first(peer: Peer) -> None:
        await peer.greet("sess_1")
        peer.drop()

    async def second(peer: Peer) -> None:
        await back.wait()
        await peer.greet("sess_2")
        heard.append(await peer.hear(KEPT_BYTES + SAMPLE_BYTES))

    async def use(connection: Connection, _call: Call) -> None:
        assert await shown.news.get() == "Reconnecting…"
        for second_of_speech in range(12):
            await connection.append(np.full(RATE, second_of_speech, np.int16).tobytes())
        back.set()
        assert await shown.news.get() == ""
        await connection.append(b"\x63\x00")

    async def run() -> None:
        async with server(first, second) as (url, _):
            await until_ended(url, shown, use)

    heard: list[bytes] = []
    shown = Shown()
    asyncio.run(run())
    sound = np.frombuffer(heard[0], np.int16)
    assert sound[::RATE][:10].tolist() == list(range(2, 12))
    assert sound[-1] == 0x63


def test_a_line_that_takes_nothing_keeps_nobody_waiting():
    moment = b"\x01\x00" * (RATE // 10)
    stalled = asyncio.Event()

    async def stall(peer: Peer) -> None:
        await peer.greet("sess_1", playout=True)
        await stalled.wait()
        while not (await peer.hear(1)).endswith(b"\x02\x00"):
            pass

    async def use(connection: Connection, _call: Call) -> None:
        # Far more than the system takes on its way.
        async with asyncio.timeout(20):
            for _ in range(6000):
                await connection.append(moment)
                await connection.report(Heard("item", 1))
        stalled.set()
        while not connection.is_away:
            await connection.append(b"\x02\x00")
            await asyncio.sleep(0.01)

    async def run() -> None:
        async with server(stall) as (url, _), open_connection(url) as connection:
            await connection.start_session(None)
            clock = asyncio.get_running_loop().time
            call = Call(connection, Shown(), clock, clock, int, duck_db=-15.0)
            async with asyncio.TaskGroup() as tasks:
                using = tasks.create_task(use(connection, call))
                with pytest.raises(UnreachableError):
                    await call.receive()
                using.cancel()

    asyncio.run(run())


def test_a_server_that_sends_the_client_away_is_not_asked_again():
    async def first(peer: Peer) -> None:
        await peer.greet("sess_1")
        peer.drop()

    async def run() -> None:
        refuse = False

        async def meet(socket: ServerConnection) -> None:
            nonlocal refuse
            refuse = True
            await first(Peer(socket, {}))

        def check(socket: ServerConnection, _request: object):
            return socket.respond(401, "no") if refuse else None

        async with serve(meet, "127.0.0.1", 0, process_request=check) as listening:
            port = cast(int, next(iter(listening.sockets)).getsockname()[1])
            async with open_connection(f"ws://127.0.0.1:{port}", at_once) as connection:
                await connection.start_session(None)
                told = [event async for event in connection.events() if isinstance(event, Lost)]
                assert len(told) == 1

    with pytest.raises(UnreachableError, match="401"):
        asyncio.run(run())


def test_without_a_wish_to_come_back_a_loss_is_the_end():
    async def first(peer: Peer) -> None:
        await peer.greet("sess_1")
        await peer.send({"type": "input_audio_buffer.speech_started"})
        peer.drop()

    async def run() -> None:
        async with server(first) as (url, _), open_connection(url) as connection:
            await connection.start_session(None)
            async for event in connection.events():
                assert not isinstance(event, SpeechStopped | Lost)
                heard.append(isinstance(event, SpeechStarted))

    heard: list[bool] = []
    with pytest.raises(UnreachableError, match="lost"):
        asyncio.run(run())
    assert heard[-1]
