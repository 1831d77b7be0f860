"""The command itself: which programs there are, and what they are given."""

import subprocess
import sys
from pathlib import Path

import pytest

from client import cli
from tests.drivers.processes import ROOT


def test_help_names_every_program(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, program in cli.PROGRAMS.items():
        assert f"  {name}" in shown
        assert program.summary in shown


@pytest.mark.parametrize("words", [[], ["sing"], ["--loud"]])
def test_an_unknown_command_is_status_2(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert cli.main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "choose from: talk, ask, serve, model" in shown.err


def test_version_is_one_line(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mimo-live ")


def test_a_program_gets_its_words_and_gives_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "counting.py").write_text("def main(argv): return len(argv)")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setitem(cli.PROGRAMS, "count", cli.Program("counting", "counts"))
    assert cli.main(["count", "one", "--two", "three"]) == 3


def test_ctrl_c_is_status_130_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "interrupted.py").write_text("def main(argv): raise KeyboardInterrupt")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setitem(cli.PROGRAMS, "wait", cli.Program("interrupted", "waits"))
    assert cli.main(["wait"]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.system
def test_talking_imports_nothing_of_the_server():
    look = (
        "import sys, client.talk;"
        "sys.exit(any(name.partition('.')[0] == 'server' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", look], cwd=ROOT, check=False).returncode == 0
