"""API keys: read in one way wherever they lie, shown to whom they belong, and to nobody else."""

import asyncio
import logging
from collections.abc import Generator
from pathlib import Path

import pytest

from agent.errors import ModelError, SettingsError
from agent.keys import MODEL, SERVER, TRANSCRIPTION, read_key, redacted
from agent.model.output import Ended, Failed
from client import keys, thin
from client.ask import ask
from client.dialogue.socket import greeted, open_socket
from server.keys import find_key
from tests.drivers.model_router import last_output, transcript
from tests.drivers.processes import start_server
from tests.drivers.website import website
from tests.fakes import StandIn, stand_in

KEY = "sk-Right_key.1"
SPOILED = [
    f"{KEY}\n",
    f"{KEY}\r\n",
    f" \t{KEY} \n\n",
    f"\ufeff{KEY}\r\n",
    f"\n\ufeff {KEY}\u00a0",
]
NO_KEYS = ["two words", f"{KEY}\n{KEY}", f"{KEY}\x00", "sk-schlüssel", "k" * 20_000, "sk-\ud800"]


@pytest.fixture(autouse=True)
def no_keys_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (SERVER, MODEL, TRANSCRIPTION):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def model() -> Generator[StandIn]:
    with stand_in() as model:
        model.key = KEY
        yield model


@pytest.mark.parametrize("written", SPOILED)
def test_what_editors_leave_around_a_key_is_taken_off_by_every_reader(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "key"
    for encoding in ("utf-8", "utf-16"):
        file.write_bytes(written.encode(encoding))
        assert find_key({}, SERVER, str(file), "listen.api_key_file") == KEY
        assert keys.key_of_file(file) == KEY
    assert find_key({SERVER: written}, SERVER, "", "listen.api_key_file") == KEY
    monkeypatch.setenv(MODEL, written)
    assert keys.key_of_environment(MODEL) == KEY


@pytest.mark.parametrize("written", NO_KEYS)
def test_what_cannot_go_into_a_header_is_refused_in_a_sentence_that_does_not_show_it(written: str):
    with pytest.raises(SettingsError) as refused:
        read_key(written, "the environment variable MIMO_LIVE_API_KEY")
    assert str(refused.value) == (
        "the environment variable MIMO_LIVE_API_KEY holds no API key: one line of ASCII letters, "
        "digits and signs was expected, without blanks inside"
    )
    assert refused.value.__cause__ is None


def test_a_file_that_is_no_key_is_named_and_not_shown(tmp_path: Path):
    file = tmp_path / "key"
    for content, reason in [
        (b"", "is empty; a key was expected"),
        (b"\xef\xbb\xbf\r\n", "is empty; a key was expected"),
        (b"\xff\xfe\x00", "holds no API key"),
        (b"secret " * 10_000, "holds no API key"),
    ]:
        file.write_bytes(content)
        for read in (lambda: find_key({}, MODEL, str(file), "model.api_key_file"),
                     lambda: keys.key_of_file(file)):  # fmt: skip
            with pytest.raises(SettingsError, match=f"{file} {reason}") as refused:
                read()
            assert "secret" not in str(refused.value)
    with pytest.raises(SettingsError, match=r"^model.api_key_file: can't read .*No such file"):
        find_key({}, MODEL, str(tmp_path / "none"), "model.api_key_file")
    with pytest.raises(SettingsError, match="Is a directory"):
        keys.key_of_file(tmp_path)


def test_the_environment_comes_before_the_file(tmp_path: Path):
    file = tmp_path / "key"
    file.write_text("of the file")
    assert find_key({MODEL: KEY}, MODEL, str(file), "model.api_key_file") == KEY
    assert find_key({MODEL: " "}, MODEL, "", "model.api_key_file") is None


def test_the_model_server_and_the_recogniser_are_shown_their_keys(
    model: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "key"
    file.write_text(f"\ufeff{KEY}\r\n")
    by_file = {"urls": [model.url], "api_key_file": str(file)}
    assert isinstance(asyncio.run(last_output({"model": by_file})), Ended)
    by_file = {"url": model.url, "api_key_file": str(file)}
    assert asyncio.run(transcript({"transcription": by_file})) == "What was said."
    monkeypatch.setenv(MODEL, f" {KEY}\n")
    monkeypatch.setenv(TRANSCRIPTION, KEY)
    assert isinstance(asyncio.run(last_output({"model": {"urls": [model.url]}})), Ended)
    assert asyncio.run(transcript({"transcription": {"url": model.url}})) == "What was said."


@pytest.mark.parametrize("key", [None, KEY])
def test_the_model_server_and_the_recogniser_are_shown_nothing_but_their_keys(
    key: str | None, monkeypatch: pytest.MonkeyPatch
):
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID", "WEBHOOK_SECRET"):
        monkeypatch.setenv(f"OPENAI_{name}", "mine")
    custom = "X-Team: mine\nAuthorization: Bearer mine\nUser-Agent: mine\nAccept: mine"
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", custom)
    for name in (MODEL, TRANSCRIPTION):
        monkeypatch.setenv(name, key or "")
    with stand_in() as model:
        assert isinstance(asyncio.run(last_output({"model": {"urls": [model.url]}})), Ended)
        assert asyncio.run(transcript({"transcription": {"url": model.url}})) == "What was said."
    assert len(model.requests) == 2
    for request in model.requests:
        assert request.headers.get("authorization") == (f"Bearer {key}" if key else None)
        assert not [name for name, value in request.headers.items() if "mine" in value]


@pytest.mark.parametrize("case", [(None, "an API key"), ("sk-x", "a different API key")])
def test_a_wrong_key_is_said_and_never_shown(
    model: StandIn,
    case: tuple[str | None, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
):
    shown, wanted = case
    caplog.set_level(logging.DEBUG)
    for variable in (MODEL, TRANSCRIPTION):
        if shown is not None:
            monkeypatch.setenv(variable, shown)
    failed = asyncio.run(last_output({"model": {"urls": [model.url]}}))
    assert isinstance(failed, Failed)
    assert str(failed.error) == f"the model server requires {wanted}"
    assert failed.error.code == "model_refused"
    with pytest.raises(ModelError, match=f"^the recogniser requires {wanted}$"):
        asyncio.run(transcript({"transcription": {"url": model.url}}))
    assert ask.main(["--url", model.url, "--text", "hi"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"mimo-live ask: the model server requires {wanted}: use --api-key-file or {MODEL}\n"
    )
    assert "sk-x" not in caplog.text


def test_what_a_server_says_is_repeated_without_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv(MODEL, KEY)
    said = b'{"error": {"message": "Bearer sk-Right_key.1 may not do that"}}'
    with website(403, "application/json", said) as url:
        failed = asyncio.run(last_output({"model": {"urls": [url]}}))
        assert isinstance(failed, Failed)
        assert str(failed.error) == "Bearer [key] may not do that"
        assert ask.main(["--url", url, "--text", "hi"]) == 1
    assert "Bearer [key] may not do that" in capsys.readouterr().err
    assert redacted("nothing", None) == "nothing"


@pytest.mark.parametrize("streams", ["--stream", "--no-stream"])
def test_ask_takes_a_key_from_a_file_before_the_environment(
    model: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streams: str
):
    file = tmp_path / "key"
    file.write_bytes(f"{KEY}\r\n".encode())
    assert ask.main(["--url", model.url, "--text", "hi", streams]) == 1
    monkeypatch.setenv(MODEL, KEY)
    assert ask.main(["--url", model.url, "--text", "hi", streams]) == 0
    monkeypatch.setenv(MODEL, "sk-other")
    words = ["--url", model.url, "--text", "hi", streams, "--api-key-file", str(file)]
    assert ask.main(words) == 0


def test_a_key_does_not_follow_a_redirect_to_another_host(
    model: StandIn, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(MODEL, KEY)
    with website(307, "text/plain", b"", Location=f"{model.url}/chat/completions") as moved:
        assert ask.main(["--url", moved, "--text", "hi"]) == 1
        assert isinstance(asyncio.run(last_output({"model": {"urls": [moved]}})), Failed)
    asked = [each for each in model.requests if each.method == "POST"]
    assert len(asked) == 2
    assert all("authorization" not in each.headers for each in asked)


def test_ask_says_which_key_file_it_cannot_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    assert ask.main(["--text", "hi", "--api-key-file", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err == f"mimo-live ask: {tmp_path}/none: No such file or directory\n"
    monkeypatch.setenv(MODEL, "secret words")
    assert ask.main(["--text", "hi"]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"mimo-live ask: the environment variable {MODEL} holds no API key: ")
    assert "secret" not in err


@pytest.mark.system
def test_a_conversation_server_and_its_client_read_the_same_spoiled_key(
    model: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async def enter(url: str) -> None:
        async with open_socket(url) as socket:
            await greeted(socket)

    file, config = tmp_path / "key", tmp_path / "server.toml"
    file.write_bytes(f"\ufeff{KEY}\r\n".encode())
    config.write_text(f'[listen]\napi_key_file = "{file}"')
    with start_server(model.url.removesuffix("/v1"), "--config", str(config)) as url:
        monkeypatch.setenv(SERVER, f"{KEY}\r\n")
        asyncio.run(enter(url))


def test_the_thin_client_shows_no_key_that_it_refuses(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        thin.main(["--key", "secret words", "--wav", "a.wav", "--save", "b.wav"])
    err = capsys.readouterr().err
    assert "--key holds no API key" in err
    assert "secret" not in err
