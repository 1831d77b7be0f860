"""The embedded speech model as its clients see it: real models, a real process, real HTTP."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from agent.audio import wav
from server.embedded import weights
from tests.drivers.model_client import (
    CLEAN,
    Client,
    audio_part,
    recording,
    silence,
    sounds_of,
    text_of,
    user,
    words,
    wrong_words,
)
from tests.drivers.processes import ROOT, model_command, start_model

pytestmark = pytest.mark.system

GOLDEN = Path(__file__).parents[2] / "golden" / "wire"
READ_ALOUD = "Please convert this text to speech: "
LONG_TEXT = READ_ALOUD + "The quick brown fox jumps over the lazy dog again. " * 300
SORRY = "Sorry, I did not catch that."


@pytest.fixture
def url(model_url: str) -> str:
    return model_url


@pytest.fixture
def client(url: str) -> Client:
    return Client(url)


@pytest.fixture
def captions(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as api:
        yield api


def hear(api: openai.OpenAI, file: bytes) -> str:
    heard = api.audio.transcriptions.create(file=("speech.wav", file), model="any")
    return heard.text


def kind(chunk: dict[str, Any]) -> tuple[str, ...]:
    """Tell what a chunk is by everything but its content: its keys and its end marks."""
    if not chunk["choices"]:
        return ("usage", *sorted(chunk))
    [choice] = chunk["choices"]
    return (
        chunk["modality"],
        *sorted(chunk),
        *sorted(choice),
        *sorted(choice["delta"]),
        *sorted(choice.get("audio_metadata", ())),
        str(choice["finish_reason"]),
    )


def recorded(name: str) -> list[dict[str, Any]]:
    lines = (GOLDEN / f"{name}.raw").read_text().splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("stream_normal", {}),
        ("stream_pcm16", {"audio": {"format": "pcm16"}}),
        ("stream_usage", {"stream_options": {"include_usage": True}}),
        ("stream_text_only", {"modalities": ["text"]}),
        ("stream_audio_only", {"modalities": ["audio"]}),
    ],
)
def test_a_stream_is_made_of_the_chunks_that_the_real_server_sends(
    client: Client, name: str, options: dict[str, Any]
):
    chunks = client.stream(user(READ_ALOUD + "Good morning, my dear friends."), **options)
    assert {kind(each) for each in chunks} == {kind(each) for each in recorded(name)}
    assert kind(chunks[0]) == kind(recorded(name)[0])
    assert kind(chunks[-1]) == kind(recorded(name)[-1])
    assert len({each["id"] for each in chunks}) == 1


def test_a_stream_ends_with_done_and_carries_the_request_id(client: Client):
    body = {"stream": True, "messages": [user("Hello.")], "modalities": ["text"]}
    stream = client.open(body, {"X-Request-Id": "abc-1"})
    events = list(stream.events())
    assert stream.response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert events[-1] == "[DONE]"
    assert json.loads(events[0])["id"] == "chatcmpl-abc-1"


def test_text_comes_before_its_sound_and_the_sound_is_what_the_text_says(
    client: Client, captions: openai.OpenAI
):
    text = "We should walk to the station now, because the train is early."
    chunks = client.stream(user(READ_ALOUD + text), audio={"format": "pcm16"})
    assert text_of(chunks) == text
    modalities = [each["modality"] for each in chunks]
    assert modalities.index("audio") > 1
    assert "text" in modalities[modalities.index("audio") :]
    sounds = sounds_of(chunks)
    assert all(len(each) <= 23_040 and not each.startswith(b"RIFF") for each in sounds)
    assert wrong_words(words(text), words(hear(captions, wav(b"".join(sounds))))) <= 1


def test_by_default_every_piece_of_sound_is_a_wav_file(client: Client):
    sounds = sounds_of(client.stream(user(READ_ALOUD + "Good morning.")))
    assert all(each.startswith(b"RIFF") for each in sounds)


def test_a_reply_that_is_not_streamed_holds_text_and_sound(client: Client):
    reply = client.whole(user(READ_ALOUD + "Good morning."))
    [choice] = reply["choices"]
    assert choice["message"]["content"] == "Good morning."
    assert choice["message"]["audio"]["data"].startswith("UklGR")
    assert choice["message"]["audio"]["transcript"] == ""
    assert 12_000 < choice["audio_metadata"]["frame_count"] < 72_000
    assert reply["usage"]["total_tokens"] > reply["usage"]["completion_tokens"] > 2


def test_max_tokens_cuts_the_reply_and_its_end_says_so(client: Client):
    chunks = client.stream(
        user(READ_ALOUD + "one two three four five"),
        modalities=["text"],
        sampling_params_list=[{"max_tokens": 3}],
    )
    assert text_of(chunks) == "one two three"
    assert chunks[-1]["choices"][0]["stop_reason"] is None


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is the capital of France?", "paris"),
        ("How many legs does a spider have?", "eight"),
        ("What colour is the sky?", "blue"),
        ("What is two plus two?", "four"),
    ],
)
def test_simple_questions_are_answered(client: Client, question: str, answer: str):
    assert answer in words(client.says(user(question)))


def by(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


GREETING = "Hello! How can I help you today?"
ONWARD = "Is there anything else that I can help you with?"


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], GREETING),
        ([by("system", "Greet the caller.")], GREETING),
        ([by("system", "Be brief."), by("system", "Greet the caller.")], GREETING),
        (
            [by("system", "You are Mia, your guide. Welcome the visitor.")],
            "Hello! I am Mia. How can I help you today?",
        ),
        ([{"role": "system", "content": None}], GREETING),
        ([by("tool", "3 degrees")], GREETING),
        ([by("assistant", "Hello there.")], ONWARD),
        ([user("Hi."), by("assistant", "Hello."), by("system", "Are they still there?")], ONWARD),
    ],
)
def test_it_speaks_first_and_again_when_nobody_has_asked_anything(
    client: Client, messages: list[dict[str, Any]], said: str
):
    chunks = client.stream(*messages)
    assert text_of(chunks) == said
    assert sum(len(pcm) for pcm in sounds_of(chunks)) > 0


@pytest.mark.parametrize("name", ["Anna", "Lucas", "Mohammed"])
def test_the_third_turn_knows_the_first(client: Client, name: str):
    history: list[dict[str, Any]] = []
    for question in (f"My name is {name}.", "What is the capital of Italy?", "What is my name?"):
        history.append(user(question))
        history.append({"role": "assistant", "content": client.says(*history)})
    assert name.lower() in words(history[-1]["content"])
    assert "rome" in words(history[3]["content"])


def test_a_spoken_question_is_answered_in_speech(client: Client, captions: openai.OpenAI):
    question = audio_part(recording("weather_question.wav"))
    chunks = client.stream(user(question), audio={"format": "pcm16"})
    assert "weather" in words(text_of(chunks))
    assert "weather" in words(hear(captions, wav(b"".join(sounds_of(chunks)))))


def test_input_audio_parts_are_heard_too(client: Client):
    data = audio_part(recording("hi_how_are_you.wav"))["audio_url"]["url"].split(",")[1]
    reply = client.says(
        user({"type": "input_audio", "input_audio": {"data": data, "format": "wav"}})
    )
    assert reply != SORRY


@pytest.mark.parametrize("file", [silence(1.0), silence(0.0), recording("car_horn.wav")])
def test_where_nobody_speaks_the_model_says_that_it_understood_nothing(client: Client, file: bytes):
    assert client.says(user(audio_part(file))) == SORRY


def test_a_very_long_history_still_gets_an_answer(client: Client):
    turns = [user("tell me more \U0001f600 " * 40), {"role": "assistant", "content": "more " * 400}]
    assert "paris" in words(client.says(*turns * 60, user("What is the capital of France?")))


def test_a_clip_is_sent_once_and_then_by_reference(client: Client):
    by_reference = {"type": "audio_url", "audio_url": None, "uuid": "clip-1"}
    status, refusal = client.post({"messages": [user(by_reference)]})
    assert (status, refusal["error"]["message"]) == (
        400,
        "Cache miss for audio at index 0 but data is not provided.",
    )
    first = client.says(user(audio_part(recording("hello.wav"), uuid="clip-1")))
    assert client.says(user(by_reference)) == first


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "JSON decode error"),
        ({}, 400, "messages"),
        ({"messages": [user("hi")], "model": "gpt-9"}, 404, "`gpt-9` does not exist"),
        (
            {"messages": [user("hi")], "modalities": ["image"]},
            400,
            "Unsupported output modalities image for this model. Supported modalities: audio, text",
        ),
        ({"messages": [user("hi")], "audio": {"format": "ogg"}}, 400, "ogg"),
        ({"messages": [user(audio_part(b"noise"))]}, 400, "not a WAV file"),
        (
            {"messages": [user({"type": "audio_url", "audio_url": {"url": "http://a/b.wav"}})]},
            400,
            "data URLs",
        ),
        (
            {"messages": [user("hi")], "sampling_params_list": [{"nope": 1}, {}]},
            500,
            "Unexpected keyword argument 'nope'",
        ),
        ({"messages": [user(audio_part(silence(1)), audio_part(silence(2)))]}, 500, "audio"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_as_the_real_server_says_it(
    client: Client, body: Any, status: int, message: str
):
    found, refusal = client.post(body)
    assert found == status == refusal["error"]["code"]
    assert message in refusal["error"]["message"]
    assert sorted(refusal["error"]) == ["code", "message", "param", "type"]


def test_errors_that_the_real_server_finds_late_come_as_events(client: Client):
    body: dict[str, Any] = {
        "stream": True,
        "messages": [user("hi")],
        "sampling_params_list": [{}, {}, {}],
    }
    stream = client.open(body)
    first, last = stream.events()
    assert stream.response.status == 200
    assert json.loads(first)["error"]["code"] == 400
    assert last == "[DONE]"


def test_closing_the_connection_frees_the_slot(url: str):
    # Reading all of it would take minutes: the next reply can only be one that did not wait.
    client = Client(url, timeout_s=20)
    body = {"stream": True, "messages": [user(LONG_TEXT)]}
    speaking = client.open(body)
    next(each for each in speaking.chunks() if each["modality"] == "audio")
    # The role chunk comes while the reply waits in line.
    waiting = client.open(body)
    next(waiting.chunks())
    waiting.close()
    speaking.close()
    assert client.says(user(READ_ALOUD + "next")) == "next"


def test_replies_are_made_one_at_a_time_in_the_order_of_the_requests(client: Client):
    order: list[str] = []
    text = READ_ALOUD + "This takes a moment to say, so that others have to wait for it."
    streams = {"first": client.open({"stream": True, "messages": [user(text)]})}
    chunks = streams["first"].chunks()
    assert next(chunks)["modality"] == next(chunks)["modality"] == "text"

    def finish(name: str) -> None:
        for _ in streams[name].chunks():
            pass
        order.append(name)

    readers: list[threading.Thread] = []
    for name in ("second", "third"):
        streams[name] = client.open({"stream": True, "messages": [user(text)]})
        next(streams[name].chunks())
        readers.append(threading.Thread(target=finish, args=(name,)))
    for _ in chunks:
        pass
    order.append("first")
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert order[0] == "first"
    assert sorted(order) == ["first", "second", "third"]


def test_a_transcription_does_not_wait_for_a_reply(client: Client, captions: openai.OpenAI):
    speaking = client.open({"stream": True, "messages": [user(LONG_TEXT)]})
    next(each for each in speaking.chunks() if each["modality"] == "audio")
    assert words(hear(captions, recording("hello_world.wav"))) == ["hello", "world"]
    speaking.close()


def test_clean_speech_is_recognised(captions: openai.OpenAI):
    wrong = [
        wrong_words(words(text), words(hear(captions, recording(name))))
        for name, text in CLEAN.items()
    ]
    assert sum(wrong) <= 0.1 * sum(len(words(text)) for text in CLEAN.values())


def test_a_transcription_can_be_plain_text_and_refusals_have_a_body(captions: openai.OpenAI):
    file = ("a.wav", recording("hello_world.wav"))
    create = captions.audio.transcriptions.create
    plain: Any = create(file=file, model="any", response_format="text")
    assert words(str(plain)) == ["hello", "world"]
    with pytest.raises(openai.BadRequestError, match="not a WAV file"):
        create(file=("a.wav", b"RIFF\r\n\x00\xff--"), model="any")
    with pytest.raises(openai.BadRequestError, match="response_format"):
        create(file=file, model="any", response_format="srt")


def test_it_is_healthy_and_says_what_it_is(client: Client):
    assert client.get("/health") == (200, {"status": "healthy"})
    status, models = client.get("/v1/models")
    assert (status, models["data"][0]["id"]) == (200, "embedded/SmolLM2-135M")
    assert "not MiMo-Audio" in models["data"][0]["owned_by"]


def test_a_signal_ends_it_at_once_and_clean(url: str):
    command = model_command("--port", "0")
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("listening on "))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")


def not_a_model(file: Path) -> None:
    file.write_text("nothing")


def a_model_cut_off(file: Path) -> None:
    with weights.language_model().open("rb") as whole:
        file.write_bytes(whole.read(2**20))


def a_header_alone(file: Path) -> None:
    file.write_bytes(b"GGUF\x03\x00\x00\x00")


def a_voice_of_other_settings(file: Path) -> None:
    file.symlink_to(weights.voice())
    file.with_name(file.name + ".json").write_text("{}")


def another_network(file: Path) -> None:
    """Begins as a voice does, and can't be loaded."""
    file.write_bytes(weights.voice().read_bytes()[:1000])
    settings = weights.voice().with_name(weights.voice().name + ".json")
    file.with_name(file.name + ".json").write_bytes(settings.read_bytes())


def nothing(_file: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("option", "make", "reason"),
    [
        ("--llm", not_a_model, "is not a GGUF model"),
        ("--llm", a_header_alone, "can't be loaded: it is damaged, truncated"),
        ("--llm", a_model_cut_off, "can't be loaded: it is damaged, truncated"),
        ("--llm", Path.mkdir, "Is a directory"),
        ("--llm", nothing, "No such file or directory"),
        ("--voice", nothing, "is not a Piper voice"),
        ("--voice", a_voice_of_other_settings, "is not a Piper voice with its settings in FILE."),
        ("--voice", another_network, "is not a Piper voice with its settings in FILE."),
    ],
)
def test_a_file_that_is_no_model_ends_it_in_one_line_before_it_listens(
    tmp_path: Path, option: str, make: Callable[[Path], None], reason: str
):
    file = tmp_path / "file"
    make(file)
    ended = subprocess.run(
        model_command("--port", "0", option, str(file)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    [line] = ended.stderr.splitlines()
    assert line.startswith("mimo-live model: ")
    assert str(file) in line
    assert reason in line


def test_a_port_in_use_is_said_in_one_line(url: str):
    ended = subprocess.run(
        model_command("--port", url.rsplit(":", 1)[1]),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.endswith("the port is in use\n")


def test_a_recogniser_can_run_alone():
    with start_model("--recogniser-only") as url:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as api:
            assert words(hear(api, recording("hello_world.wav"))) == ["hello", "world"]
        status, refusal = Client(url).post({"messages": [user("hi")]})
    assert (status, refusal["error"]["message"]) == (404, "This server only transcribes speech.")


@pytest.mark.parametrize("last", ["listening", "ready"])
def test_a_recogniser_ends_with_whoever_started_it(last: str):
    words = [sys.executable, "-u", "-m", "server.embedded.child"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert any(line.startswith(last) for line in process.stdout)
        process.stdin.close()
        assert process.wait(10) == 0


def test_the_runtime_of_the_voice_keeps_no_records_for_its_maker(tmp_path: Path):
    environment = os.environ | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    # This process has loaded the server: what that set must not be inherited.
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    load = [sys.executable, "-c", "import server.embedded.synthesiser"]
    subprocess.run(load, env=environment, cwd=ROOT, check=True)
    assert list(tmp_path.iterdir()) == []
