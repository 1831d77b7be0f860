"""What users said, in writing: by the speech model, by a recogniser of our own, or by nobody."""

import asyncio
import json
import re
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from agent.audio import RATE, read_wav, wav
from agent.commands import Overhear, Transcribe
from agent.errors import ModelError
from agent.trace.inputs import Overheard, Transcribed
from server.model.router import ModelRouter
from server.model.transcription import Transcriber, Transcripts
from server.settings import Settings, checked
from tests.drivers.model_client import DATA, recording
from tests.drivers.processes import ROOT, command, start_server
from tests.fakes import Fault, stand_in

pytestmark = pytest.mark.system

SECOND = bytes(2 * RATE)


def settings(url: str, mode: str) -> Settings:
    return checked({"model": {"urls": [url]}, "transcription": {"mode": mode}}, "test")


def transcribed(found: Settings, pcm: bytes) -> str:
    async def run() -> str:
        model = ModelRouter(found)
        transcriber = Transcriber(found, model)
        try:
            return await transcriber.transcribe(pcm)
        finally:
            await transcriber.close()
            await model.close()

    return asyncio.run(run())


def test_the_speech_model_can_write_down_what_it_hears():
    with stand_in(text="Good morning.") as model:
        assert transcribed(settings(model.url, "model"), SECOND) == "Good morning."
        [asked] = model.chats
    assert asked.body["modalities"] == ["text"]
    [message] = asked.body["messages"]
    assert [part["type"] for part in message["content"]] == ["text", "audio_url"]


def test_a_model_that_fails_costs_the_transcript():
    with stand_in(always={Fault.ERROR_MIDWAY}) as model, pytest.raises(ModelError):
        transcribed(settings(model.url, "model"), SECOND)


def test_a_recogniser_of_our_own_is_started_when_it_is_needed():
    found = settings("http://127.0.0.1:9/v1", "embedded")
    words = transcribed(found, read_wav(recording("hello_world.wav")))
    assert re.findall("[a-z]+", words.lower()) == ["hello", "world"]


def test_a_short_word_over_the_agents_voice_is_read_and_stops_it(tmp_path: Path):
    # As loud as the question: by its sound alone it would be talked through.
    calm = np.frombuffer(read_wav(recording("yes.wav")), "<i2") // 3
    word = tmp_path / "word.wav"
    word.write_bytes(wav(calm.astype("<i2").tobytes()))
    with (
        stand_in(groups=30, first_chunk_ms=100, rtf=0.3, heard="Stop.") as model,
        start_server(model.url.removesuffix("/v1")) as url,
    ):
        spoken = ("--wav", str(DATA / "weather_question.wav"), "--wav", str(word))
        words = command("talk", "--url", url, "--json", *spoken, "--barge-in", "1.5")
        ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "interrupted" in {json.loads(line)["event"] for line in ran.stdout.splitlines()}
    assert ran.returncode == 0, ran.stdout


def test_nobody_is_asked_where_transcripts_are_off():
    assert not Transcriber(settings("http://a/v1", "off"), ModelRouter(Settings())).is_on


@contextmanager
def answering(body: bytes) -> Generator[str]:
    """A recogniser that answers everything with the same."""

    class Recogniser(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Recogniser) as server:
        Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()


ANSWERS = [
    (b'{"text": "Hi.", "usage": {"type": 5, "seconds": null}, "logprobs": "?"}', "Hi."),
    (b'{"text": "Hi.", "duration": NaN, "tokens": ' + b"9" * 5_000 + b"}", "Hi."),
    (b'{"text": "", "usage": null}', ""),
    (b'{"text": null}', None),
    (b'{"text": ["Hi."]}', None),
    (b'{"text": "Hi', None),
    (b"[" * 100_000, None),
    (b"null", None),
    (b"\xff", None),
    (b"", None),
]


@pytest.mark.parametrize(("answer", "words"), ANSWERS)
def test_only_the_text_of_a_recognisers_answer_matters(answer: bytes, words: str | None):
    with answering(answer) as url:
        found = checked({"transcription": {"mode": "embedded", "url": url}}, "test")
        if words is None:
            with pytest.raises(ModelError) as failure:
                transcribed(found, SECOND)
            assert failure.value.code == "transcription_failed"
        else:
            assert transcribed(found, SECOND) == words


def test_a_sound_is_read_only_where_what_is_said_is_written_down():
    wishes = [Overhear("item_1", SECOND), Transcribe("item_2", SECOND), Overhear("item_3", SECOND)]

    async def run(found: Settings) -> list[Transcribed | Overheard | None]:
        transcriber = Transcriber(found, ModelRouter(found))
        transcripts = Transcripts(transcriber)
        try:
            return [await transcripts.write_down(wish) for wish in wishes]
        finally:
            await transcriber.close()

    with answering(b'{"text": "Hi."}') as url:
        found = checked({"transcription": {"mode": "embedded", "url": url}}, "test")
        read = asyncio.run(run(found))
    assert read == [None, Transcribed("item_2", "Hi.", 1.0), Overheard("item_3", "Hi.")]
