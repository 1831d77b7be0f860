"""A session outlives its connection: what a client hears that lost it and came back.

A real server on a real socket; connections are cut without a word, as a network does it.
"""

import asyncio
import base64
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, suppress
from itertools import repeat
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agent.audio import RATE, SAMPLE_BYTES, read_wav, samples_in
from client.dialogue import events as wire
from client.dialogue.connection import Regained, open_connection
from tests.drivers.model_client import DATA
from tests.drivers.resuming import DELTA, Event, address, client, line, serve
from tests.fakes import Reply, StandIn, stand_in

pytestmark = pytest.mark.system

LONG = Reply(groups=60, chunk_groups=1)
"""About ten seconds of sound, made at once."""
SLOW = Reply(groups=20, chunk_groups=1, rtf=0.1)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[StandIn, str]]:
    with (
        stand_in() as model,
        serve(tmp_path_factory.mktemp("resume"), model.url, 60.0) as process,
    ):
        yield model, address(process)


@pytest.fixture
def model(running: tuple[StandIn, str]) -> StandIn:
    running[0].reply = Reply()
    return running[0]


@pytest.fixture
def url(running: tuple[StandIn, str]) -> str:
    return running[1]


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


def answered(model: StandIn) -> Callable[[], bool]:
    """Whether one more answer was made since now."""
    before = len(model.chats)
    return lambda: len(model.chats) > before and bool(model.chats[-1].ended)


async def wait(model: StandIn, until: Callable[[], object]) -> None:
    await asyncio.to_thread(model.wait, until)


@pytest.mark.parametrize("deltas", [1, 7])
@pytest.mark.parametrize("reply", [LONG, SLOW], ids=["all on its way", "still being made"])
def test_after_the_last_event_received_everything_comes_once(
    model: StandIn, url: str, reply: Reply, deltas: int
):
    async def talk() -> None:
        model.reply, is_answered = reply, answered(model)
        async with client(url) as first:
            await first.start()
            await first.ask()
            await first.until(DELTA, deltas)
            if reply is LONG:
                await wait(model, is_answered)
            first.cut_line()
        async with client(url, resume=first.token, after=first.last_id) as second:
            assert second.session_id == first.session_id
            await second.until("response.done")
        assert first.pcm + second.pcm == model.chats[-1].pcm
        start = {"item_id": first.item_id, "audio_start_samples": len(first.pcm) // SAMPLE_BYTES}
        assert second.events[0].items() >= {"type": "x_mimo.resumed", **start}.items()
        told = [each for each in (first.kinds + second.kinds)[1:] if each != "x_mimo.resumed"]
        async with client(url) as whole:
            await whole.start()
            await whole.ask()
            await whole.until("response.done")
        assert told == whole.kinds[1:]

    run(talk)


def test_a_client_that_counts_sound_gets_the_rest_of_it(model: StandIn, url: str):
    async def talk() -> None:
        model.reply, is_answered = LONG, answered(model)
        async with client(url) as first:
            await first.start()
            await first.ask()
            await first.until(DELTA, 5)
            await wait(model, is_answered)
            first.cut_line()
        got: Event = {"item_id": first.item_id, "received_samples": len(first.pcm) // SAMPLE_BYTES}
        async with client(url, resume=first.token, **got) as second:
            await second.until("response.done")
        assert first.pcm + second.pcm == model.chats[-1].pcm
        assert second.events[0]["audio_start_samples"] == got["received_samples"]
        # The words come whole, so nothing of them is said twice.
        assert second.kinds.count("response.output_audio_transcript.done") == 1
        assert "response.output_audio_transcript.delta" not in second.kinds

    run(talk)


def test_a_client_that_lost_everything_hears_on_from_what_it_reported(model: StandIn, url: str):
    async def talk() -> None:
        model.reply = LONG
        async with client(url) as first:
            await first.start(playout=True)
            await first.ask()
            await first.until("response.done")
            heard = {"item_id": first.item_id, "audio_end_samples": samples_in(3_000)}
            await first.send("x_mimo.playout", **heard)
            await first.synchronise()
            first.cut_line()
        async with client(url, resume=first.token) as second:
            await second.until("error")
        start = second.events[0]["audio_start_samples"]
        assert samples_in(3_000 - 160) < start <= samples_in(3_000)
        assert second.pcm == first.pcm[start * SAMPLE_BYTES :]
        assert second.kinds.count("response.done") == 1

    run(talk)


def test_a_second_loss_right_after_the_first_loses_nothing(model: StandIn, url: str):
    async def talk() -> None:
        model.reply, is_answered = LONG, answered(model)
        async with client(url) as first:
            await first.start()
            await first.ask()
            await first.until(DELTA)
            await wait(model, is_answered)
            first.cut_line()
        async with client(url, resume=first.token, after=first.last_id) as second:
            second.cut_line()
        async with client(url, resume=second.token, after=first.last_id) as third:
            await third.until(DELTA, 3)
            third.cut_line()
        async with client(url, resume=third.token, after=third.last_id) as fourth:
            await fourth.until("response.done")
        assert first.pcm + third.pcm + fourth.pcm == model.chats[-1].pcm
        assert fourth.session_id == first.session_id

    run(talk)


def test_an_answer_that_was_made_meanwhile_is_delivered(model: StandIn, url: str):
    async def talk() -> None:
        model.reply, is_answered = SLOW, answered(model)
        async with client(url) as first:
            await first.start()
            await first.ask()
            await first.until("response.created")
            first.cut_line()
        await wait(model, is_answered)
        async with client(url, resume=first.token, after=first.last_id) as second:
            done = await second.until("response.done")
        assert done["response"]["status"] == "completed"
        assert second.pcm == model.chats[-1].pcm

    run(talk)


def test_an_utterance_goes_on_over_the_next_connection(model: StandIn, url: str):
    pcm = read_wav((DATA / "weather_question.wav").read_bytes())
    half = len(pcm) // 2 // SAMPLE_BYTES * SAMPLE_BYTES

    async def talk() -> None:
        async with client(url) as first:
            await first.start({"type": "server_vad"})
            await first.append(pcm[:half])
            await first.until("input_audio_buffer.speech_started")
            await first.synchronise()
            first.cut_line()
        async with client(url, resume=first.token, after=first.last_id) as second:
            await second.append(pcm[half:] + bytes(2 * RATE * SAMPLE_BYTES))
            await second.until("response.done")
        assert second.kinds.count("input_audio_buffer.committed") == 1
        assert "input_audio_buffer.speech_started" not in second.kinds
        [said] = [
            part["audio_url"]["url"]
            for message in model.chats[-1].body["messages"]
            if isinstance(message["content"], list)
            for part in message["content"]
            if part["type"] == "audio_url"
        ]
        heard = read_wav(base64.b64decode(said.partition(",")[2]))
        assert pcm[half - RATE : half + RATE] in heard

    run(talk)


def test_a_connection_that_only_looks_open_is_replaced(model: StandIn, url: str):
    async def talk() -> None:
        async with client(url) as first:
            await first.start()
            async with client(url, resume=first.token, after=first.last_id) as second:
                assert second.session_id == first.session_id
                await first.wait_for_end()
                await second.ask()
                await second.until("response.done")
        assert second.pcm == model.chats[-1].pcm

    run(talk)


def test_every_token_works_once_and_no_other_works(url: str):
    async def talk() -> None:
        async with client(url) as first:
            await first.start()
            first.cut_line()
        async with client(url, resume=first.token) as second:
            assert second.session_id == first.session_id
            assert second.token != first.token
            for token in (first.token, "resume_0", "%ff", ""):
                async with client(url, resume=token) as stranger:
                    assert stranger.session_id != first.session_id
            await second.synchronise()

    run(talk)


@pytest.mark.parametrize(
    "position",
    [{"after": "event_"}, {"after": "-1", "received_samples": "x"}, {"item_id": "%00%ff"}],
    ids=str,
)
def test_a_position_that_makes_no_sense_is_no_obstacle(url: str, position: Event):
    async def talk() -> None:
        async with client(url) as first:
            await first.start()
            first.cut_line()
        async with client(url, resume=first.token, **position) as second:
            assert second.session_id == first.session_id
            await second.synchronise()
            assert second.kinds == ["error"]

    run(talk)


def test_who_says_goodbye_or_never_asked_is_not_waited_for(url: str):
    async def talk() -> None:
        async with client(url) as polite:
            await polite.start()
            await polite.leave()
        async with client(url, resume=polite.token) as other:
            assert other.session_id != polite.session_id
            await other.start()
            token = other.token
            await other.send("session.update", session={"type": "realtime", "x_mimo": {}})
            updated = await other.until("session.updated")
            assert "resume_token" not in updated["session"]["x_mimo"]
            other.cut_line()
        async with client(url, resume=token) as third:
            assert third.session_id != other.session_id

    run(talk)


def test_a_token_is_given_and_never_taken(url: str):
    async def talk() -> None:
        async with client(url) as first:
            wish = {"type": "realtime", "x_mimo": {"resume": True, "resume_token": "mine"}}
            await first.send("session.update", session=wish)
            error = await first.until("error")
            assert error["error"]["param"] == "session.x_mimo.resume_token"

    run(talk)


def test_after_the_grace_time_the_session_is_gone(model: StandIn, tmp_path: Path):
    async def talk(process: subprocess.Popen[str]) -> None:
        url = address(process)
        async with client(url) as first:
            await first.start()
            first.cut_line()
        await asyncio.to_thread(line, process, f"{first.session_id} closed")
        async with client(url, resume=first.token) as second:
            assert second.session_id != first.session_id

    with serve(tmp_path, model.url, 0.05) as process:
        run(lambda: talk(process))


def test_a_server_that_stops_does_not_wait_for_clients_that_are_away(
    model: StandIn, tmp_path: Path
):
    async def talk(process: subprocess.Popen[str]) -> None:
        url = address(process)
        async with client(url) as first:
            await first.start()
            first.cut_line()
        async with client(url) as second:
            await second.start()
            process.terminate()
            await second.wait_for_end()

    with serve(tmp_path, model.url, 60.0) as process:
        run(lambda: talk(process))
        assert process.wait(5) == 0


class Line:
    """A way to a server that can be cut, and stay cut for so many attempts."""

    def __init__(self, url: str):
        self._to = urlsplit(url)
        self._writers: list[asyncio.StreamWriter] = []
        self.refusals = 0

    @asynccontextmanager
    async def laid(self) -> AsyncGenerator[str]:
        async with await asyncio.start_server(self._connected, "127.0.0.1", 0) as listening:
            yield f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
            self.cut()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusals:
            self.refusals -= 1
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(self._to.hostname, self._to.port)
        self._writers += [writer, back]
        with suppress(ConnectionError):
            await asyncio.gather(_carry(reader, back), _carry(there, writer))


async def _carry(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    while some := await source.read(65536):
        to.write(some)
        await to.drain()
    to.transport.abort()


def test_the_terminal_client_gets_every_event_once_though_the_line_is_cut(model: StandIn, url: str):
    async def talk() -> None:
        model.reply = SLOW
        line, refused, is_cut = Line(url), 3, False
        events, sounds = list[object](), list[wire.AudioDelta]()
        waits_s = lambda: repeat(0.0)  # noqa: E731
        async with line.laid() as through, open_connection(through, waits_s) as connection:
            await connection.start_session(None, ["resume"])
            await connection.write("user", "Tell me more.")
            await connection.send("response.create")
            async for event in connection.events():
                events.append(event)
                sounds = [each for each in events if isinstance(each, wire.AudioDelta)]
                is_sound = isinstance(event, wire.AudioDelta) and len(sounds) in (2, 5)
                # What came before a cut may be read after it.
                if not is_cut and (is_sound or isinstance(event, wire.TranscriptDone)):
                    line.refusals, refused, is_cut = refused, 0, True
                    line.cut()
                if isinstance(event, Regained):
                    is_cut = False
                    if any(isinstance(each, wire.TranscriptDone) for each in events):
                        # Answered after all that was lost.
                        await connection.send("conversation.item.delete", item_id="none")
                if isinstance(event, wire.ErrorEvent):
                    break
        assert {each.resumed for each in events if isinstance(each, Regained)} == {True}
        assert b"".join(each.delta for each in sounds) == model.chats[-1].pcm
        words = [each.delta for each in events if isinstance(each, wire.TranscriptDelta)]
        whole = [each.transcript for each in events if isinstance(each, wire.TranscriptDone)]
        assert ["".join(words)] == whole
        assert sum(isinstance(each, wire.ResponseDone) for each in events) == 1

    run(talk)
