"""Saving: outside any working tree, and refused before the call where it can't be."""

import os
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from client import talk
from client.evaluation import evaluation
from client.recording import SaveError, check_writable, new_conversation
from tests.drivers.processes import ROOT

NOW = datetime(2026, 3, 4, 5, 6, 7)
QUESTION = ROOT / "tests" / "data" / "weather_question.wav"


def in_a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file" / "answer.wav"


def in_no_folder(folder: Path) -> Path:
    return folder / "none" / "answer.wav"


def a_folder(folder: Path) -> Path:
    return folder


WRONG = [
    (in_a_file, "Not a directory"),
    (in_no_folder, "No such file or directory"),
    (a_folder, "Is a directory"),
]


@pytest.mark.parametrize("base", [None, "", "relative"])
def test_conversations_lie_in_the_users_own_folder(
    base: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    if base is not None:
        monkeypatch.setenv("XDG_DATA_HOME", base)
    folder = tmp_path / ".local" / "share" / "mimo-live" / "conversations"
    assert new_conversation(NOW) == folder / "conversation-2026-03-04-050607"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_that_folder_may_be_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert new_conversation(NOW).parent == tmp_path / "mimo-live" / "conversations"


@pytest.mark.parametrize(("path", "reason"), WRONG)
def test_a_file_that_can_not_be_saved_is_refused_before_the_call(
    path: Callable[[Path], Path], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    saved = path(tmp_path)
    # Nothing listens there: the call would fail for another reason.
    words = ["--url", "ws://127.0.0.1:9", "--wav", str(QUESTION), "--save", str(saved)]
    assert talk.main(words) == 1
    assert capsys.readouterr().err == f"can't write to {saved}: {reason}\n"


@pytest.mark.parametrize("option", ["--json", "--trace", "--plot"])
def test_figures_that_can_not_be_saved_are_refused_before_they_are_measured(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        evaluation.main(["--quick", option, str(in_no_folder(tmp_path))])
    assert ended.value.code == 2
    assert "No such file or directory" in capsys.readouterr().err


def test_looking_leaves_nothing_behind_and_changes_nothing(tmp_path: Path):
    check_writable(None)
    check_writable(tmp_path / "new.wav")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "old.wav").write_bytes(b"old")
    check_writable(tmp_path / "old.wav")
    assert (tmp_path / "old.wav").read_bytes() == b"old"
    os.mkfifo(tmp_path / "pipe")
    check_writable(tmp_path / "pipe")
    check_writable(Path("/dev/null"))
    with pytest.raises(SaveError, match=f"^can't write to {tmp_path}/a/b: No such file"):
        check_writable(tmp_path / "a" / "b")
