"""Where a command is suggested, it can be pasted and works."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from client.own_command import example_question, own_command, pasteable
from tests.drivers.processes import ROOT, command, start_server
from tests.fakes import stand_in

BIN = Path(sys.executable).parent


def test_the_command_is_shown_as_a_shell_here_would_find_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    assert own_command() == str(BIN / "mimo-live")
    monkeypatch.chdir(BIN.parent)
    assert own_command() == "bin/mimo-live"
    monkeypatch.chdir(BIN)
    assert own_command() == "./mimo-live"
    monkeypatch.setenv("PATH", f"{BIN}:/usr/bin:/bin")
    assert own_command() == "mimo-live"
    other = tmp_path / "mimo-live"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{BIN}")
    assert own_command() == "./mimo-live"


def test_an_example_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(ROOT)
    assert example_question() == "tests/data/weather_question.wav"
    monkeypatch.chdir(tmp_path)
    assert example_question() == str(ROOT / "tests" / "data" / "weather_question.wav")


def test_a_file_is_named_as_it_is_found_from_here_whatever_stands_around_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    help_text = "a file (configs/kiosk.toml), or --config configs/local.toml. (configs/a.yaml, too)"
    monkeypatch.chdir(ROOT)
    assert pasteable(help_text) == help_text
    monkeypatch.chdir(tmp_path)
    assert pasteable(help_text) == help_text.replace("configs/", f"{ROOT}/configs/")


@pytest.mark.system
def test_what_a_machine_without_a_microphone_is_advised_to_do_works(tmp_path: Path):
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin"}
    with stand_in() as model, start_server(model.url.removesuffix("/v1")) as url:
        advised = subprocess.run(
            command("talk", "--url", url),
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert advised.returncode == 1
        assert "the PortAudio library is missing" in advised.stderr
        pasted, page = advised.stdout.splitlines()
        subprocess.run(["/bin/sh", "-c", pasted], env=environment, cwd=tmp_path, check=True)
    assert (tmp_path / "answer.wav").read_bytes().startswith(b"RIFF")
    assert page == f"  in a browser: {url.replace('ws', 'http', 1)}/"
