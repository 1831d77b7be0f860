"""`mimo-live talk --wav` against a scripted server on a real socket."""

import base64
import io
import json
import signal
import sys
import threading
import wave
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, cast

import msgspec
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from agent.audio import RATE, Samples, samples_in, wav
from client import cli, talk
from client.dialogue.jitter import FADE_SAMPLES

Event = dict[str, object]
USER, FIRST, SECOND = 8000, 1000, 2000
"""Constant sample values: what the user says, and the agent's two answers."""


class Peer:
    """The server's side of one conversation, driven by a script."""

    def __init__(self, socket: ServerConnection):
        self._socket = socket
        self.received: list[Event] = []

    def send(self, *events: Event) -> None:
        for event in events:
            self._socket.send(json.dumps(event))

    def receive(self) -> Event:
        event = msgspec.json.decode(self._socket.recv(), type=Event)
        self.received.append(event)
        return event

    def hear(self, item_id: str) -> None:
        """Listen until the user has spoken and fallen silent, as server VAD does."""
        while not self._next_is_loud():
            pass
        self.send({"type": "input_audio_buffer.speech_started", "item_id": item_id})
        while self._next_is_loud():
            pass
        self.send(
            {"type": "input_audio_buffer.speech_stopped", "item_id": item_id},
            {"type": "input_audio_buffer.committed", "item_id": item_id},
            {"type": "conversation.item.added", "item": {"id": item_id}},
            {
                "type": "conversation.item.input_audio_transcription.completed",
                "item_id": item_id,
                "transcript": f"words of {item_id}",
            },
        )

    def listen_on(self) -> None:
        """Take what comes until the client leaves."""
        try:
            while True:
                self.receive()
        except ConnectionClosed:
            return

    def sent(self, kind: str) -> list[Event]:
        return [event for event in self.received if event["type"] == kind]

    def _next_is_loud(self) -> bool:
        while (event := self.receive())["type"] != "input_audio_buffer.append":
            pass
        pcm = base64.b64decode(cast(str, event["audio"]))
        return bool(np.frombuffer(pcm, np.int16).any())


def audio(number: int, value: int, samples: int) -> Event:
    pcm = np.full(samples, value, "<i2").tobytes()
    return {
        "type": "response.output_audio.delta",
        "response_id": f"resp_{number}",
        "item_id": f"answer_{number}",
        "delta": base64.b64encode(pcm).decode(),
    }


def words(number: int, delta: str) -> Event:
    return {
        "type": "response.output_audio_transcript.delta",
        "response_id": f"resp_{number}",
        "item_id": f"answer_{number}",
        "delta": delta,
    }


def begun(number: int) -> Event:
    return {"type": "response.created", "response": {"id": f"resp_{number}", "status": "x"}}


def ended(number: int, text: str, status: str = "completed") -> list[Event]:
    ids = {"response_id": f"resp_{number}", "item_id": f"answer_{number}"}
    return [
        {"type": "response.output_audio.done", **ids},
        {"type": "response.output_audio_transcript.done", **ids, "transcript": text},
        {"type": "response.done", "response": {"id": f"resp_{number}", "status": status}},
        {"type": "rate_limits.updated", "rate_limits": []},
    ]


@contextmanager
def server(script: Callable[[Peer], None]) -> Generator[tuple[str, list[Peer]]]:
    """Run the script for each client; whatever it raises fails the test."""
    peers: list[Peer] = []
    failures: list[BaseException] = []

    def meet(socket: ServerConnection) -> None:
        peers.append(Peer(socket))
        try:
            script(peers[-1])
        except BaseException as failure:
            failures.append(failure)

    with serve(meet, "127.0.0.1", 0, close_timeout=1) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        port = cast(int, listening.socket.getsockname()[1])
        try:
            yield f"ws://127.0.0.1:{port}", peers
        finally:
            listening.shutdown()
            thread.join()
    assert failures == []


class Talked(NamedTuple):
    status: int
    events: list[Event]
    user: Samples
    agent: Samples
    notes: str
    """What was said beside the events."""

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event["event"] == kind]


Talk = Callable[..., Talked]


@pytest.fixture
def talk_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Generator[Talk]:
    """Speak some 0.3-second files to a server; return all that came of it."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]

    def run(url: str, *options: str, files: int = 1) -> Talked:
        file, saved = tmp_path / "question.wav", tmp_path / "saved.wav"
        pcm = np.full(samples_in(300), USER, np.int16)
        file.write_bytes(wav(pcm.tobytes()))
        words = [word for _ in range(files) for word in ("--wav", str(file))]
        status = talk.main(["--url", url, "--json", "--save", str(saved), *words, *options])
        captured = capsys.readouterr()
        lines = captured.out.splitlines()
        sides = np.zeros((0, 2), np.int16)
        if saved.exists():
            with wave.open(str(saved)) as recording:
                assert (recording.getnchannels(), recording.getframerate()) == (2, RATE)
                raw = recording.readframes(recording.getnframes())
            sides = np.frombuffer(raw, np.int16).reshape(-1, 2)
        events = [msgspec.json.decode(line, type=Event) for line in lines]
        return Talked(status, events, sides[:, 0], sides[:, 1], captured.err)

    yield run
    for number, was in zip(numbers, before, strict=True):
        signal.signal(number, was)


def test_one_turn_is_spoken_heard_and_timed(talk_to: Talk):
    def script(peer: Peer) -> None:
        peer.send({"type": "session.created", "session": {}})
        peer.hear("said_1")
        times = {"requested_ms": 160, "decided_ms": 500, "first_sound_ms": 590}
        peer.send(begun(1), {"type": "x_mimo.marks", "response_id": "resp_1", **times})
        peer.send(audio(1, FIRST, 2400), audio(1, FIRST, 4800), *ended(1, "Hello."))
        peer.listen_on()

    with server(script) as (url, peers):
        talked = talk_to(url, "--instructions", "Be brief.", "--voice", "anna")

    assert talked.status == 0
    assert [(event["who"], event["text"]) for event in talked.of("caption")] == [
        ("user", "words of said_1"),
        ("agent", "Hello."),
    ]
    assert peers[0].received[0] == {
        "type": "session.update",
        "session": {
            "type": "realtime",
            "audio": {
                "input": {
                    "transcription": {"model": "embedded"},
                    "turn_detection": {"type": "semantic_vad"},
                }
            },
            "instructions": "Be brief.",
            "x_mimo": {"playout": True, "duck": True, "marks": True, "echo_cancelled": True},
        },
    }
    voice = {"type": "realtime", "audio": {"output": {"voice": "anna"}}}
    assert peers[0].received[1] == {"type": "session.update", "session": voice}
    assert np.count_nonzero(talked.user == USER) == samples_in(300)
    # Every sample of the answer, and the glide to silence after it.
    assert np.count_nonzero(talked.agent) == 7200 + FADE_SAMPLES
    assert not talked.agent[: np.flatnonzero(talked.user)[-1]].any()

    [turn] = talked.of("turn")
    parts = [cast(int, turn[f"{part}_ms"]) for part in ("endpointing", "model", "playout")]
    assert abs(sum(parts) - cast(int, turn["voice_to_voice_ms"])) <= 2
    assert turn["reply_ms"] == 430
    # What was timed is what was recorded, to a frame and the clock's own lateness.
    gap = np.flatnonzero(talked.agent)[0] - np.flatnonzero(talked.user)[-1]
    assert gap > 0


def test_the_model_that_answers_is_named_once(talk_to: Talk):
    def script(peer: Peer) -> None:
        peer.send({"type": "session.created", "session": {"model": "as asked"}})
        named: Event = {"id": "sess_1", "x_mimo": {"answered_by": "embedded/SmolLM2-135M"}}
        updated: Event = {"type": "session.updated", "session": named}
        peer.send(updated, updated)
        peer.hear("said_1")
        peer.send(begun(1), audio(1, FIRST, 2400), *ended(1, "Hello."))
        peer.listen_on()

    with server(script) as (url, _):
        talked = talk_to(url)
    assert talked.notes.count("Answered by embedded/SmolLM2-135M.") == 1
    assert "as asked" not in talked.notes


def test_the_second_file_waits_until_the_first_answer_was_played(talk_to: Talk):
    def script(peer: Peer) -> None:
        for number, value in ((1, FIRST), (2, SECOND)):
            peer.hear(f"said_{number}")
            # All at once: half a second of sound, long before it is played.
            peer.send(begun(number), audio(number, value, 12000), *ended(number, "Yes."))
        peer.listen_on()

    with server(script) as (url, peers):
        talked = talk_to(url, files=2)

    assert talked.status == 0
    assert [event["turn"] for event in talked.of("turn")] == [1, 2]
    first_answer = np.flatnonzero(talked.agent == FIRST)
    second_answer = np.flatnonzero(talked.agent == SECOND)
    words = np.flatnonzero(talked.user == USER)
    second_words = words[samples_in(300)]
    assert first_answer[-1] < second_words < second_answer[0]
    assert np.count_nonzero(talked.agent) == 2 * (12000 + FADE_SAMPLES)
    assert peers[0].sent("conversation.item.truncate") == []


@pytest.mark.realtime
def test_a_barge_in_stops_the_sound_and_reports_exactly_what_was_heard(talk_to: Talk):
    def script(peer: Peer) -> None:
        peer.hear("said_1")
        peer.send(begun(1), words(1, "A "), audio(1, FIRST, RATE // 100))
        peer.send(words(1, "longanswer."), audio(1, FIRST, 10 * RATE))
        peer.hear("said_2")
        peer.send(*ended(1, "A longanswer.", status="cancelled"), audio(1, 3000, 24000))
        peer.send(begun(2), audio(2, SECOND, 4800), *ended(2, "Short."))
        peer.listen_on()

    with server(script) as (url, peers):
        talked = talk_to(url, "--barge-in", "0.2", files=2)

    assert talked.status == 0
    assert [event["turn"] for event in talked.of("turn")] == [1, 2]
    [truncated] = peers[0].sent("conversation.item.truncate")
    second = np.flatnonzero(talked.agent == SECOND)[0] - FADE_SAMPLES
    heard = np.count_nonzero(talked.agent[:second]) - FADE_SAMPLES
    assert truncated == {
        "type": "conversation.item.truncate",
        "item_id": "answer_1",
        "content_index": 0,
        "audio_end_ms": heard * 1000 // RATE,
    }
    assert 0 < heard < 10 * RATE
    [interrupted] = talked.of("interrupted")
    assert interrupted["audio_end_ms"] == truncated["audio_end_ms"]
    agent = [event["text"] for event in talked.of("caption") if event["who"] == "agent"]
    assert agent == ["A", "Short."]
    # What came late for the answer that was cut is not heard.
    assert not (talked.agent == 3000).any()
    edges = np.abs(np.diff(talked.agent.astype(int)))
    assert edges.max() <= SECOND / FADE_SAMPLES + 2


def refused(*keys: str) -> Event:
    param = ".".join(("session", *keys))
    error = {"message": "unknown field", "code": "unknown_parameter", "param": param}
    return {"type": "error", "error": error}


def agreed(**extensions: bool) -> Event:
    return {"type": "session.updated", "session": {"id": "sess_1", "x_mimo": extensions}}


def test_a_server_that_knows_no_extensions_is_asked_again_without_them(talk_to: Talk):
    def script(peer: Peer) -> None:
        for refusal in (refused("x_mimo", "duck"), refused("x_mimo"), None):
            while peer.receive()["type"] != "session.update":
                pass
            if refusal is not None:
                peer.send(refusal)
        peer.hear("said_1")
        peer.send(begun(1), audio(1, FIRST, 9600), *ended(1, "Hello."))
        peer.listen_on()

    with server(script) as (url, peers):
        talked = talk_to(url)
    assert talked.status == 0
    asked = [cast(Event, event["session"]) for event in peers[0].sent("session.update")]
    assert [session.get("x_mimo") for session in asked] == [
        {"playout": True, "duck": True, "marks": True, "echo_cancelled": True},
        {"playout": True, "marks": True, "echo_cancelled": True},
        None,
    ]
    assert talked.of("error") == []
    assert peers[0].sent("x_mimo.playout") == []


def test_how_much_was_heard_is_reported_to_a_server_that_wants_to_know(talk_to: Talk):
    def script(peer: Peer) -> None:
        peer.send(agreed(playout=True))
        peer.hear("said_1")
        peer.send(begun(1), audio(1, FIRST, 10 * RATE))
        peer.hear("said_2")
        peer.send(*ended(1, "A long", status="cancelled"))
        peer.send(begun(2), audio(2, SECOND, 12000), *ended(2, "Short."))
        peer.listen_on()

    with server(script) as (url, peers):
        assert talk_to(url, "--barge-in", "0.5", files=2).status == 0
    heard: dict[object, list[int]] = {"answer_1": [], "answer_2": []}
    for report in peers[0].sent("x_mimo.playout"):
        heard[report["item_id"]].append(cast(int, report["audio_end_samples"]))
    steps = np.diff(heard["answer_1"][:-1]) * 1000 // RATE
    assert ((steps >= 200) & (steps <= 260)).all()
    assert heard["answer_2"][-1] == 12000
    # At a cut it is told exactly, and before the item is truncated.
    [truncated] = peers[0].sent("conversation.item.truncate")
    before = peers[0].received[peers[0].received.index(truncated) - 1]
    assert (before["type"], before["item_id"]) == ("x_mimo.playout", "answer_1")
    assert heard["answer_1"][-1] * 1000 // RATE == truncated["audio_end_ms"]


@pytest.mark.realtime
def test_ducked_and_held_sound_goes_on_with_nothing_lost(talk_to: Talk):
    def script(peer: Peer) -> None:
        peer.send(agreed(duck=True))
        peer.hear("said_1")
        peer.send(begun(1), audio(1, 10000, RATE))
        wait_until_spoken(peer, 10)
        peer.send({"type": "x_mimo.duck", "response_id": "resp_1"})
        wait_until_spoken(peer, 10)
        peer.send({"type": "x_mimo.hold", "response_id": "resp_1"})
        wait_until_spoken(peer, 10)
        peer.send({"type": "x_mimo.restore", "response_id": "resp_1"}, *ended(1, "Still here."))
        peer.listen_on()

    def wait_until_spoken(peer: Peer, frames: int) -> None:
        for _ in range(frames):
            peer.receive()

    with server(script) as (url, peers):
        talked = talk_to(url, "--duck-db", "-20")
    assert talked.status == 0
    assert peers[0].sent("conversation.item.truncate") == []
    assert (talked.agent == 1000).sum() > samples_in(100)
    sounding = np.flatnonzero(talked.agent)
    gap = np.flatnonzero(np.diff(sounding) > samples_in(100))
    assert gap.size == 1
    # All of the answer, and the two glides to silence: where it was held, and at its end.
    assert 0 <= RATE + 2 * FADE_SAMPLES - len(sounding) <= 2


def test_a_turn_that_is_not_answered_is_named_with_its_reason(talk_to: Talk):
    def script(peer: Peer) -> None:
        peer.hear("said_1")
        peer.listen_on()

    with server(script) as (url, _):
        talked = talk_to(url, "--timeout", "0.3")
    assert talked.status == 3
    [turn] = talked.of("turn")
    assert turn["answered"] is False
    assert turn["turn"] == 1
    assert turn["file"] == "question.wav"
    assert turn["reason"] == "no sound came within 0.3 s"


def test_speech_that_the_server_never_notices_is_unanswered(talk_to: Talk):
    with server(Peer.listen_on) as (url, _):
        talked = talk_to(url, "--timeout", "0.2")
    assert talked.status == 3
    assert talked.of("turn")[0]["reason"] == "no speech was noticed by the server within 0.2 s"


def test_a_response_that_fails_ends_the_turn_at_once_with_the_servers_words(talk_to: Talk):
    def script(peer: Peer) -> None:
        peer.hear("said_1")
        details = {"type": "failed", "error": {"type": "server_error", "message": "no model"}}
        response = {"id": "resp_1", "status": "failed", "status_details": details}
        peer.send(begun(1), {"type": "response.done", "response": response})
        peer.listen_on()

    with server(script) as (url, _):
        talked = talk_to(url)
    assert talked.status == 3
    assert talked.of("turn")[0]["reason"] == "no model"


def test_a_connection_lost_in_a_turn_leaves_it_unanswered(talk_to: Talk):
    with server(lambda peer: peer.hear("said_1")) as (url, _):
        talked = talk_to(url)
    assert talked.status == 3
    assert talked.user.any()


def test_an_event_that_cannot_be_read_ends_the_conversation(talk_to: Talk):
    def script(peer: Peer) -> None:
        peer.send({"type": "response.done"})
        peer.listen_on()

    with server(script) as (url, _):
        talked = talk_to(url)
    assert talked.status == 1
    assert "can't be read" in cast(str, talked.of("error")[0]["message"])


def test_a_server_that_refuses_is_one_line_and_status_1(talk_to: Talk):
    def script(peer: Peer) -> None:
        peer.send({"type": "error", "error": {"message": "wrong key", "code": "invalid_api_key"}})

    with server(script) as (url, _):
        talked = talk_to(url)
    assert talked.status == 1
    assert talked.of("error")[0]["message"] == "wrong key"


def test_a_server_that_is_not_there_is_one_line_and_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with server(Peer.listen_on) as (url, _):
        pass
    file = tmp_path / "question.wav"
    file.write_bytes(wav(np.full(4800, USER, np.int16).tobytes()))
    assert talk.main(["--url", url, "--wav", str(file)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert f"can't reach a conversation server at {url}" in shown.err


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"no sound", "not a WAV file: it begins with b'no sound'"),
        (wav(bytes(9600)), "only silence"),
    ],
)
def test_a_file_that_cannot_be_spoken_is_refused_by_name(
    content: bytes, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "question.wav"
    file.write_bytes(content)
    assert talk.main(["--url", "ws://127.0.0.1:9", "--wav", str(file)]) == 1
    assert f"{file}: {complaint}" in capsys.readouterr().err


def ask_for(answer: str, file: Path) -> None:
    """Speak once from a file to a server that answers with these words."""

    def script(peer: Peer) -> None:
        peer.hear("said_1")
        peer.send(begun(1), audio(1, FIRST, 2400), *ended(1, answer))
        peer.listen_on()

    file.write_bytes(wav(np.full(4800, USER, np.int16).tobytes()))
    with server(script) as (url, _):
        assert cli.main(["talk", "--url", url, "--wav", str(file)]) == 0


def test_the_screen_for_people_has_captions_and_latencies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    ask_for("Hello.", tmp_path / "question.wav")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["  you  words of said_1", "agent  Hello."]
    assert lines[2].startswith("turn 1 answered after ")
    assert "\x1b" not in "".join(lines)


def test_a_terminal_that_lacks_a_letter_shows_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="latin-1"))
    ask_for("Zoë says 你.", tmp_path / "question.wav")
    assert "agent  Zoë says ?." in shown.getvalue().decode("latin-1")


def test_talk_is_among_the_programs():
    assert cli.PROGRAMS["talk"].module == talk.__name__
