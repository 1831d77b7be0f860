"""`mimo-live ask` against a model server over real HTTP: what it sends, shows, saves, refuses."""

import base64
import json
import os
import struct
import subprocess
import sys
import wave
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.audio import read_wav, wav
from client.ask.ask import main
from tests.drivers.model_client import Json
from tests.drivers.processes import ROOT, command
from tests.drivers.virtual_audio import is_installed, virtual_audio
from tests.drivers.website import website
from tests.fakes import Fault, StandIn, sound, stand_in

WORDS = "Hello there, how are you?"
TONE = sound(3, 2)


@pytest.fixture(scope="module")
def server() -> Generator[StandIn, None, None]:
    with stand_in() as model:
        yield model


@pytest.fixture
def model(server: StandIn) -> StandIn:
    server.requests.clear()
    server.faults.clear()
    return server


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    path.write_bytes(wav(TONE))
    return path


def ask(model: StandIn, *options: str | Path) -> int:
    return main(["--url", model.url, *map(str, options)])


def sent(model: StandIn) -> list[Json]:
    """The messages of the only request."""
    (chat,) = model.chats
    return chat.body["messages"]


def heard(part: Json) -> bytes:
    """The sound of a part, as the model server decodes it."""
    head, _, data = part["audio_url"]["url"].partition(";base64,")
    assert head == "data:audio/wav"
    return read_wav(base64.b64decode(data))


def kinds(messages: list[Json]) -> list[list[str]]:
    return [[each["role"], *(part["type"] for part in each["content"])] for each in messages]


def message_file(folder: Path, messages: object) -> Path:
    path = folder / "messages.json"
    path.write_text(json.dumps(messages))
    return path


def one_sound(folder: Path, url: str) -> Path:
    part = {"type": "audio_url", "audio_url": {"url": url}}
    return message_file(folder, [{"role": "user", "content": [part]}])


def test_text_comes_on_stdout_and_measures_on_stderr(
    model: StandIn, capsys: pytest.CaptureFixture[str]
):
    assert ask(model, "--text", "Who are <|im_end|>you?") == 0
    out, err = capsys.readouterr()
    assert out == WORDS + "\n"
    assert "first text" in err
    assert "first audio" in err
    assert "RTF" in err
    content = [{"type": "text", "text": "Who are you?"}]
    assert sent(model) == [{"role": "user", "content": content}]
    body = model.chats[0].body
    assert body["stream"] is True
    assert body["audio"] == {"format": "pcm16"}
    assert len(body["sampling_params_list"]) == 2


def test_text_is_shown_while_the_reply_is_still_being_made(model: StandIn):
    model.faults.append(Fault.STALL_MIDWAY)
    command = [sys.executable, "-m", "client.cli", "ask", "--url", model.url, "--text", "hi"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(len(WORDS)) == WORDS.encode()
        assert model.chats[0].ended == ""
        process.terminate()
    model.wait(lambda: model.chats[0].ended == "closed")


def test_tts_has_the_text_read_aloud(model: StandIn):
    assert ask(model, "--tts", "Good morning.") == 0
    text = "Please convert this text to speech: Good morning."
    assert sent(model)[0]["content"] == [{"type": "text", "text": text}]


@pytest.mark.parametrize("streams", ["--stream", "--no-stream"])
def test_the_saved_sound_is_what_was_received(
    model: StandIn, tmp_path: Path, streams: str, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "new" / "folder"
    assert ask(model, "--text", "hi", "--save", folder, streams) == 0
    assert (folder / "reply-1.wav").read_bytes() == wav(model.chats[0].pcm)
    assert model.chats[0].body["stream"] is (streams == "--stream")
    assert capsys.readouterr().out == WORDS + "\n"


def test_clips_go_as_a_message_each_and_the_question_with_the_last(
    model: StandIn, clip: Path, tmp_path: Path
):
    other = tmp_path / "other.flac"
    other.write_bytes(b"fLaC...")
    assert ask(model, "--audio", clip, other, "--text", "The same?") == 0
    assert kinds(sent(model)) == [["user", "audio_url"], ["user", "audio_url", "text"]]
    assert heard(sent(model)[0]["content"][0]) == TONE
    encoded = base64.b64encode(b"fLaC...").decode()
    assert sent(model)[1]["content"][0]["audio_url"]["url"] == f"data:audio/flac;base64,{encoded}"


def test_a_clip_needs_no_question(model: StandIn, clip: Path):
    assert ask(model, "--audio", clip) == 0
    assert kinds(sent(model)) == [["user", "audio_url"]]


def test_voice_and_persona_come_first(model: StandIn, clip: Path):
    assert ask(model, "--text", "hi", "--voice", clip, "--system", "You are Ada.") == 0
    voice, persona, question = sent(model)
    assert kinds([voice]) == [["system", "text", "audio_url"]]
    assert voice["content"][0]["text"] == "Your voice should be:"
    assert persona == {"role": "system", "content": [{"type": "text", "text": "You are Ada."}]}
    assert question["role"] == "user"


@pytest.mark.parametrize("bare", [True, False])
def test_a_message_file_may_hold_every_kind_of_sound(model: StandIn, clip: Path, bare: bool):
    data = base64.b64encode(clip.read_bytes()).decode()
    urls = [f"data:audio/x-wav;base64,{data}", "clip.wav", "file://clip.wav", clip.as_uri()]
    messages: list[Json] = [
        {"role": "system", "content": "Be brief."},
        *(
            {"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": url}}]}
            for url in urls
        ),
        {"role": "assistant", "content": [{"type": "text", "text": "I see."}]},
        {
            "role": "user",
            "content": [{"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}],
        },
    ]
    path = message_file(clip.parent, messages if bare else {"messages": messages})
    assert ask(model, "--message-json", path) == 0
    found = sent(model)
    assert [each["role"] for each in found] == [each["role"] for each in messages]
    sounds = [found[index]["content"][0] for index in (1, 2, 3, 4, 6)]
    assert [heard(each) for each in sounds] == [TONE] * 5


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_message_file_may_begin_with_a_byte_order_mark(
    model: StandIn, tmp_path: Path, encoding: str
):
    path = tmp_path / "messages.json"
    path.write_text('[{"role": "user", "content": "Größer?"}]', encoding)
    assert ask(model, "--message-json", path) == 0
    assert sent(model) == [{"role": "user", "content": [{"type": "text", "text": "Größer?"}]}]


def test_several_sounds_in_one_message_are_parted(model: StandIn, clip: Path):
    part = {"type": "audio_url", "audio_url": {"url": "clip.wav"}}
    question = {"type": "text", "text": "The same?"}
    content = [{"role": "user", "content": [part, part, question]}]
    assert ask(model, "--message-json", message_file(clip.parent, content)) == 0
    assert kinds(sent(model)) == [["user", "audio_url"], ["user", "audio_url", "text"]]


@pytest.mark.parametrize(("width", "rate"), [(1, 8_000), (2, 44_100), (3, 24_000), (4, 48_000)])
def test_wav_of_any_width_and_rate_goes_in_the_models_own_form(
    model: StandIn, tmp_path: Path, width: int, rate: int
):
    path = tmp_path / "clip.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(bytes(rate * width * 2))
    assert ask(model, "--audio", path) == 0
    pcm = heard(sent(model)[0]["content"][0])
    assert len(pcm) == 48_000


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="pipes have no names here")
def test_a_stream_of_floats_comes_through_a_pipe(model: StandIn):
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 0, b"WAVE", b"fmt ", 16, 3, 2, 24_000, 0, 0, 32)
    sound = np.repeat(np.frombuffer(TONE, "<i2") / np.float32(2**15), 2).astype("<f4")
    reader, writer = os.pipe()
    with open(writer, "wb") as pipe:
        # It is less than a pipe holds.
        pipe.write(head + struct.pack("<4sI", b"data", 0) + sound[:4_000].tobytes())
    assert ask(model, "--audio", f"/dev/fd/{reader}") == 0
    os.close(reader)
    assert heard(sent(model)[0]["content"][0]) == TONE[:4_000]


def test_sound_at_a_url_is_fetched(model: StandIn, tmp_path: Path):
    with website(200, "audio/wav; x=y", wav(TONE)) as url:
        assert ask(model, "--message-json", one_sound(tmp_path, url + "/of-no-type")) == 0
    assert heard(sent(model)[0]["content"][0]) == TONE


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (404, "audio/wav", "HTTP 404"),
        (200, "text/html", "not a supported type of sound"),
        (200, "audio/wav", "not a WAV file"),
    ],
)
def test_what_is_at_a_url_may_be_of_no_use(
    model: StandIn,
    capsys: pytest.CaptureFixture[str],
    status: int,
    kind: str,
    message: str,
):
    with website(status, kind, b"<html>") as url:
        assert ask(model, "--audio", url + "/page") == 1
    one_line(capsys, message, "/page")
    assert not model.chats


def one_line(capsys: pytest.CaptureFixture[str], *words: str) -> None:
    """Nothing on stdout, and a single line on stderr with these words."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    for word in words:
        assert word in err


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("missing.wav", "missing.wav: No such file or directory"),
        (".", "Is a directory"),
        ("notes.txt", "notes.txt: not a supported type of sound; use .wav .mp3"),
        ("empty.mp3", "empty.mp3: empty"),
        ("broken.wav", "broken.wav: not a WAV file"),
        ("silent.wav", "a WAV file without sound"),
        ("data:audio/wav;base64,no*base64", "not base64"),
        ("data:audio/wav,plain", "not base64"),
        ("data:audio/amr;base64,AAAA", "not a supported type of sound"),
        ("http://127.0.0.1:1/a.wav", "http://127.0.0.1:1/a.wav: "),
        ("http://[/a.wav", "http://[/a.wav: "),
    ],
)
def test_sound_that_cannot_be_read_is_named_and_nothing_is_asked(
    model: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str], url: str, message: str
):
    for name, file in [("notes.txt", b"x"), ("empty.mp3", b""), ("broken.wav", b"RIFFRAFF")]:
        (tmp_path / name).write_bytes(file)
    (tmp_path / "silent.wav").write_bytes(wav(b""))
    assert ask(model, "--message-json", one_sound(tmp_path, url)) == 1
    one_line(capsys, "messages[0]", message)
    assert not model.chats


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "there are no messages"),
        ({"message": []}, "missing required field `messages`"),
        ([{"role": "robot", "content": "hi"}], "robot"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "image_url"),
        ([{"role": "user", "content": 7}], "Expected `str | array`, got `int` - at `$[0].content`"),
        ("hi", "Expected `object | array`"),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_audio", "input_audio": {"data": "", "format": "pcm16"}}
                    ],
                }
            ],
            "input_audio in pcm16: not a supported type",
        ),
    ],
)
def test_a_message_file_of_another_form_is_refused(
    model: StandIn,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    messages: object,
    message: str,
):
    assert ask(model, "--message-json", message_file(tmp_path, messages)) == 1
    one_line(capsys, "messages.json", message)


def test_a_message_file_that_is_no_json_or_not_there_is_refused(
    model: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "messages.json"
    assert ask(model, "--message-json", path) == 1
    one_line(capsys, "No such file")
    path.write_text("{nope")
    assert ask(model, "--message-json", path) == 1
    one_line(capsys, "JSON is malformed")


@pytest.mark.parametrize(
    ("status", "kind", "body", "message"),
    [
        (502, "text/html", b"<html>", "HTTP 502"),
        (
            200,
            "text/html; charset=utf-8",
            b"<html>\n <title>Log in",
            "text/html: <html> <title>Log in\n",
        ),
        (200, "application/json", b'{"detail":"\\u0007 gone"}', 'application/json: {"detail":"'),
        (200, "application/json", b'{"error":{"message":"no GPU"}}', "ask: no GPU\n"),
        (200, "text/plain", b"\x1b[2J" + b"x" * 999, "text/plain: ?[2J" + "x" * 96 + "…\n"),
        (200, "text/html", b"", "text/html: empty\n"),
    ],
)
def test_what_is_no_model_server_is_named_by_its_type_and_first_words(
    capsys: pytest.CaptureFixture[str], status: int, kind: str, body: bytes, message: str
):
    with website(status, kind, body) as url:
        for streams in ("--stream", "--no-stream"):
            assert main(["--url", url, "--text", "hi", streams]) == 1
            one_line(capsys, message)


def test_a_redirect_is_followed(model: StandIn, capsys: pytest.CaptureFixture[str]):
    with website(308, "text/plain", b"", Location=f"{model.url}/chat/completions") as url:
        assert main(["--url", url, "--text", "hi"]) == 0
    assert capsys.readouterr().out == WORDS + "\n"


@pytest.mark.system
@pytest.mark.parametrize("option", ["--text", "--tts", "--system", "--model", "--url"])
def test_an_argument_that_is_no_text_is_refused_without_a_traceback(model: StandIn, option: str):
    # A byte that is no UTF-8, as a terminal of another encoding sends it.
    words = [*command("ask", "--url", model.url, "--text", "hi"), option, b"gr\xfc\xdf"]
    environment = os.environ | {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    ran = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert ran.returncode == 2
    assert b"Traceback" not in ran.stderr
    assert option.encode() in ran.stderr
    assert not model.chats


@pytest.mark.system
@pytest.mark.parametrize("as_json", [False, True])
def test_a_terminal_that_lacks_a_letter_gets_the_others(model: StandIn, as_json: bool):
    usual, model.reply = model.reply, replace(model.reply, text="Grüß 你好")
    environment = os.environ | {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    words = command("ask", "--url", model.url, "--text", "hi", *(["--json"] if as_json else []))
    ran = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, check=False)
    model.reply = usual
    assert ran.returncode == 0
    if as_json:
        assert json.loads(ran.stdout)["text"] == "Grüß 你好"
    else:
        assert ran.stdout == b"Gr?? ??\n"


@pytest.mark.parametrize("streams", ["--stream", "--no-stream"])
def test_a_refusal_is_told_in_the_servers_words(
    model: StandIn, capsys: pytest.CaptureFixture[str], streams: str
):
    assert ask(model, "--text", "hi", "--model", "other", streams) == 1
    one_line(capsys, "HTTP 404", "The model `other` does not exist.")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault.ERROR_BEFORE, "stage-0 exploded"),
        (Fault.ERROR_FIRST, "prompt too long"),
        (Fault.CUT_FIRST, "the reply was cut off"),
    ],
)
@pytest.mark.parametrize("streams", ["--stream", "--no-stream"])
def test_a_failure_before_anything_is_one_line(
    model: StandIn, capsys: pytest.CaptureFixture[str], fault: Fault, message: str, streams: str
):
    model.faults.append(fault)
    assert ask(model, "--text", "hi", streams) == 1
    one_line(capsys, message)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault.ERROR_MIDWAY, "stage-1 exploded"),
        (Fault.CUT_MIDWAY, "the reply was cut off"),
        (Fault.WRONG_JSON, "not a chunk of a reply"),
        (Fault.WRONG_BASE64, "not base64"),
    ],
)
def test_a_reply_that_breaks_is_kept_so_far_and_fails(
    model: StandIn,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    fault: Fault,
    message: str,
):
    model.faults.append(fault)
    assert ask(model, "--text", "hi", "--save", tmp_path) == 1
    out, err = capsys.readouterr()
    assert out == WORDS + "\n"
    assert message in err
    saved = read_wav((tmp_path / "reply-1.wav").read_bytes())
    assert saved
    assert model.chats[0].pcm.startswith(saved)


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.STALL_FIRST, Fault.STALL_MIDWAY])
def test_a_stall_ends_at_the_timeout_and_the_server_sees_it(
    model: StandIn, capsys: pytest.CaptureFixture[str], fault: Fault
):
    model.faults.append(fault)
    assert ask(model, "--text", "hi", "--timeout", "0.2") == 1
    assert "no complete reply within 0.2 s" in capsys.readouterr().err
    model.wait(lambda: model.chats[0].ended == "closed")


def test_a_server_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]):
    assert main(["--url", "http://127.0.0.1:1", "--text", "hi"]) == 1
    one_line(capsys, "http://127.0.0.1:1/v1/chat/completions can't be reached")


def test_of_requests_at_once_the_others_go_on_when_one_fails(
    model: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model.faults.append(Fault.ERROR_BEFORE)
    assert ask(model, "--text", "hi", "--concurrency", "3", "--json", "--save", tmp_path) == 1
    out, err = capsys.readouterr()
    assert "stage-0 exploded" in err
    replies = [json.loads(line) for line in out.splitlines()]
    assert sorted(each["request"] for each in replies) == [1, 2, 3]
    whole = [each for each in replies if each["error"] is None]
    assert [each["text"] for each in whole] == [WORDS, WORDS]
    saved = {Path(each["saved"]).read_bytes() for each in whole}
    assert saved == {wav(chat.pcm) for chat in model.chats[1:]}
    assert len(saved) == 2


def test_json_holds_everything(model: StandIn, capsys: pytest.CaptureFixture[str]):
    assert ask(model, "--text", "hi", "--json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    reply = json.loads(out)
    assert reply["text"] == WORDS
    assert reply["audio_s"] == 1.6
    assert reply["error"] is None
    assert 0 < reply["first_text_s"] <= reply["first_audio_s"] <= reply["total_s"]
    assert reply["rtf"] == pytest.approx(reply["total_s"] / 1.6, abs=0.001)
    assert 0 <= reply["gap_p50_s"] <= reply["gap_max_s"]
    assert reply["playout_delay_s"] >= 0


def test_the_answers_of_requests_at_once_do_not_mix(
    model: StandIn, capsys: pytest.CaptureFixture[str]
):
    assert ask(model, "--text", "hi", "--concurrency", "2") == 0
    lines = sorted(capsys.readouterr().out.splitlines())
    assert lines == [f"[1] {WORDS}", f"[2] {WORDS}"]


def test_the_length_of_a_reply_is_limited(model: StandIn):
    assert ask(model, "--text", "hi", "--max-tokens", "40") == 0
    assert model.chats[0].body["sampling_params_list"][0]["max_tokens"] == 40


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_asked(
    model: StandIn, clip: Path, capsys: pytest.CaptureFixture[str]
):
    assert ask(model, "--text", "hi", "--save", clip) == 1
    one_line(capsys, "--save", "clip.wav", "exists")
    assert not model.chats


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--text", "hi", "--tts", "hi"],
        ["--message-json", "x.json", "--audio", "a.wav"],
        ["--text", "hi", "--concurrency", "0"],
        ["--text", "hi", "--concurrency", "2", "--play"],
        ["--text", "hi", "--url", "ftp://box"],
    ],
)
def test_wrong_usage_is_refused(options: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as refused:
        main(options)
    assert refused.value.code == 2
    assert "mimo-live ask: error: " in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_error(model: StandIn):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "client.cli", "ask", "--url", model.url, "--text", "hi"]
    ended = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert ended.returncode == 1
    assert ended.stderr == b""


@pytest.mark.realtime
@pytest.mark.skipif(not is_installed(), reason="pulseaudio is not installed")
def test_the_reply_is_played_to_its_end(model: StandIn, tmp_path: Path):
    command = [sys.executable, "-m", "client.cli", "ask", "--url", model.url, "--text", "hi"]
    with virtual_audio() as card, card.ear(tmp_path / "heard.wav"):
        subprocess.run([*command, "--play"], cwd=ROOT, env=card.environment, check=True)
    played = np.frombuffer(read_wav((tmp_path / "heard.wav").read_bytes()), "<i2") / 8_000
    reply = np.frombuffer(model.chats[0].pcm, "<i2").reshape(16, 2_400) / 8_000
    # A busy machine may skip a piece, but not most of them, and not all of the end.
    was_heard = [np.correlate(played, piece, "valid").max() > 1_100 for piece in reply]
    assert sum(was_heard) > 8
    assert any(was_heard[-3:])
