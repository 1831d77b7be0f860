"""Spoken conversations through all of it: real speech, real processes, real models, real sound.

What the agent said is never taken from its own words: it is put back through the recogniser.
"""

import base64
import json
import random
import re
import signal
import subprocess
import wave
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openai
import pytest
from websockets.sync.client import connect

from agent.audio import Samples, read_wav, samples_in, wav
from tests.drivers.model_client import DATA, Client, sounds_of, user
from tests.drivers.page import CHROMIUM, chromium
from tests.drivers.processes import ROOT, command, command_on_free_ports
from tests.drivers.virtual_audio import is_installed, virtual_audio

pytestmark = pytest.mark.system

QUESTION = DATA / "weather_question.wav"
GREETING = DATA / "hi_how_are_you.wav"
READ_ALOUD = "Please convert this text to speech: "


class Talked(NamedTuple):
    events: list[dict[str, Any]]
    user: Samples
    agent: Samples

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]

    def captions(self, who: str) -> list[str]:
        return [event["text"].lower() for event in self.of("caption") if event["who"] == who]


def talk(server_url: str, folder: Path, *files: Path, options: tuple[str, ...] = ()) -> Talked:
    """Speak the files one after the other, each when the answer before it has been heard."""
    saved = folder / "saved.wav"
    spoken = [word for file in files for word in ("--wav", str(file))]
    words = command("talk", "--url", server_url, "--json", "--save", str(saved), *spoken, *options)
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=90)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    with wave.open(str(saved)) as recording:
        raw = recording.readframes(recording.getnframes())
    sides = np.frombuffer(raw, np.int16).reshape(-1, 2)
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    return Talked(events, sides[:, 0], sides[:, 1])


@pytest.fixture
def recognise(model_url: str):
    with openai.OpenAI(base_url=f"{model_url}/v1", api_key="none") as api:

        def text(file: bytes) -> str:
            """What a small recogniser makes of it; it may join two words to a third."""
            heard = api.audio.transcriptions.create(file=("heard.wav", file), model="any")
            return heard.text.lower()

        yield text


@pytest.fixture
def spoken(model_url: str, tmp_path: Path):
    """Speak a text with the model's own voice into a file."""

    def speak(text: str) -> Path:
        options = {"audio": {"format": "pcm16"}, "modalities": ["audio"]}
        chunks = Client(model_url).stream(user(READ_ALOUD + text), **options)
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.wav"
        file.write_bytes(wav(b"".join(sounds_of(chunks))))
        return file

    return speak


def test_a_question_is_heard_and_its_answer_can_be_understood(
    server_url: str, tmp_path: Path, recognise: Any
):
    talked = talk(server_url, tmp_path, QUESTION)
    assert "weather" in talked.captions("user")[0]
    assert "weather" in recognise(wav(talked.agent.tobytes()))
    [turn] = talked.of("turn")
    parts = ("endpointing_ms", "model_ms", "playout_ms")
    assert turn["voice_to_voice_ms"] == pytest.approx(sum(turn[part] for part in parts), abs=2)
    # Nobody talked over anybody, and what was said is in the recording, sample by sample.
    assert np.flatnonzero(talked.user)[-1] < np.flatnonzero(talked.agent)[0]
    question = np.frombuffer(read_wav(QUESTION.read_bytes()), np.int16)
    assert np.array_equal(np.trim_zeros(talked.user), np.trim_zeros(question))


def written(role: str, text: str) -> dict[str, Any]:
    kind = {"assistant": "output_text", "system": "input_text"}[role]
    item = {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}
    return {"type": "conversation.item.create", "item": item}


@pytest.mark.parametrize(
    ("before", "options", "said"),
    [
        ([], {}, "Hello! I am a friendly voice assistant. How can I help you today?"),
        ([], {"instructions": "Greet the caller."}, "Hello! How can I help you today?"),
        (
            [],
            {"conversation": "none", "input": []},
            "Hello! I am a friendly voice assistant. How can I help you today?",
        ),
        (
            [written("system", "Greet the caller.")],
            {},
            "Hello! I am a friendly voice assistant. How can I help you today?",
        ),
        (
            [written("assistant", "Welcome.")],
            {"instructions": "Ask again."},
            "Is there anything else that I can help you with?",
        ),
    ],
    ids=["nothing", "instructions", "out of band", "system", "again"],
)
def test_the_agent_speaks_first_where_it_is_asked_to(
    server_url: str, before: list[dict[str, Any]], options: dict[str, Any], said: str
):
    with connect(f"{server_url}/v1/realtime") as socket:
        for event in (*before, {"type": "response.create", "response": options}):
            socket.send(json.dumps(event))
        sound = 0
        while (event := json.loads(socket.recv(30)))["type"] != "response.done":
            assert event["type"] != "error", event
            sound += len(event["delta"]) if event["type"] == "response.output_audio.delta" else 0
    response = event["response"]
    assert (response["status"], sound > 0) == ("completed", True), response
    assert response["output"][0]["content"][0]["transcript"] == said


def test_one_command_starts_everything_answers_and_leaves_nothing_behind():
    words = command_on_free_ports("talk", "--wav", str(QUESTION), "--json")
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as talking:
        assert talking.stdout is not None
        first = json.loads(talking.stdout.readline())
        started = subprocess.run(
            ["pgrep", "--parent", str(talking.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        events = [first, *map(json.loads, talking.stdout)]
        assert talking.wait(60) == 0
    assert [event["answered"] for event in events if event["event"] == "turn"] == [True]
    assert len(started) == 2
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_the_third_turn_depends_on_the_first(
    server_url: str, tmp_path: Path, recognise: Any, spoken: Any
):
    questions = ("My name is Anna.", "What is the capital of Italy?", "What is my name?")
    talked = talk(server_url, tmp_path, *map(spoken, questions))
    assert len(talked.of("turn")) == 3
    heard = recognise(wav(talked.agent.tobytes()))
    assert "rome" in heard
    assert "anna" in talked.captions("agent")[2]


@pytest.mark.realtime
def test_a_barge_in_at_any_moment_stops_the_answer_and_is_answered(server_url: str, tmp_path: Path):
    moment_s = random.uniform(0.05, 1.2)
    talked = talk(
        server_url, tmp_path, GREETING, QUESTION, options=("--barge-in", f"{moment_s:.2f}")
    )
    assert [turn["answered"] for turn in talked.of("turn")] == [True, True], moment_s
    assert len(talked.of("interrupted")) == 1, moment_s
    speech = np.flatnonzero(np.abs(talked.user) > 500)
    second_ends = speech[-1]
    gaps = np.flatnonzero(np.diff(np.flatnonzero(talked.agent)) > samples_in(400))
    assert gaps.size, f"the agent spoke on after {moment_s:.2f} s"
    stopped = np.flatnonzero(talked.agent)[gaps[-1]]
    assert stopped < second_ends, moment_s


@pytest.mark.realtime
@pytest.mark.skipif(not is_installed(), reason="pulseaudio is not installed")
def test_talking_through_a_microphone_and_a_loudspeaker(
    server_url: str, tmp_path: Path, recognise: Any
):
    said, heard = tmp_path / "said.wav", tmp_path / "heard.wav"
    # The silence before it lets the answer to an earlier question be heard to its end.
    said.write_bytes(wav(bytes(2 * samples_in(4000)) + read_wav(QUESTION.read_bytes())))
    words = command("talk", "--url", server_url)
    pipe = subprocess.PIPE
    with (
        virtual_audio() as card,
        card.ear(heard),
        subprocess.Popen(words, cwd=ROOT, env=card.environment, stdout=pipe, text=True) as talking,
    ):
        assert talking.stdout is not None
        _wait_for(talking.stdout, "Speak now")
        assert card.say(said).wait(20) == 0
        assert "weather" in _wait_for(talking.stdout, "  you").lower()
        _wait_for(talking.stdout, "turn 1 answered after")
        assert card.say(said).wait(20) == 0
        _wait_for(talking.stdout, "turn 2 answered after")
        talking.send_signal(signal.SIGINT)
        rest, _ = talking.communicate(timeout=20)
    assert (talking.returncode, "Goodbye" in rest) == (0, True)
    assert "weather" in recognise(wav(read_wav(heard.read_bytes())))


def _wait_for(lines: Any, beginning: str) -> str:
    for line in lines:
        if line.startswith(beginning):
            return line
    raise AssertionError(f"no line begins with {beginning!r}")


@pytest.mark.realtime
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_talking_through_the_page_in_a_browser(server_url: str, tmp_path: Path, recognise: Any):
    said = bytes(2 * samples_in(2500, 48_000)) + read_wav(QUESTION.read_bytes(), 48_000)
    greeting = read_wav(GREETING.read_bytes(), 48_000)
    url = server_url.replace("ws", "http")
    with (
        chromium(tmp_path) as browser,
        browser.page(url, said=said, permission="granted") as page,
    ):
        page.press_talk()
        page.wait_for_received("response.output_audio.done", timeout_s=60)
        page.wait_for_phase("listening")
        page.wait_for_silence()
        first = page.played()
        page.type(READ_ALOUD + ", ".join(["the longest story that was ever told"] * 4))
        page.wait_for_more_sound(first, 1.2)
        browser.say(greeting)
        page.choose_microphone(1)
        page.wait_for_interruption()
        page.wait_for_entry(6)
        page.wait_for_phase("listening")
        page.wait_for_silence()
        rest = page.played()[len(first) :]
        captions = page.captions()
        later: list[bytes] = []
        for entries, words in enumerate(("Good morning.", "Seven apples.", "Green water."), 4):
            before = page.played()
            page.type(READ_ALOUD + words)
            page.wait_for_entry(2 * entries)
            page.wait_for_more_sound(before, 0.3)
            page.wait_for_phase("listening")
            page.wait_for_silence()
            later.append(page.played()[len(before) :])
    assert "weather" in recognise(wav(first))
    assert [caption.speaker for caption in captions] == ["You", "Agent"] * 3
    assert all("weather" in caption.text.lower() for caption in captions[:2])
    assert [caption.interrupted for caption in captions] == [False] * 3 + [True] + [False] * 2
    for word, sound in zip(("morning", "apples", "water"), later, strict=True):
        assert word in recognise(wav(sound))
    # The story breaks off before its end, and what comes after it answers the greeting.
    words = set(re.findall("[a-z]+", recognise(wav(rest))))
    assert words & {"longest", "story"}
    assert words & set(re.findall("[a-z]+", captions[-1].text.lower()))
    # No more of it was heard than was reported; silence is left out, as an underrun adds some.
    [cut] = page.sent_of("conversation.item.truncate")
    deltas = (event for event in page.received if event["type"] == "response.output_audio.delta")
    sounds = (event["delta"] for event in deltas if event["item_id"] == cut["item_id"])
    received = np.frombuffer(b"".join(map(base64.b64decode, sounds)), np.int16)
    story = received[: samples_in(cut["audio_end_ms"])]
    sounding = np.flatnonzero(np.frombuffer(rest, np.int16))
    [before_pause, *_] = np.flatnonzero(np.diff(sounding) > samples_in(400))
    assert before_pause < np.count_nonzero(story) + samples_in(20)
