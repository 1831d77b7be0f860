"""`mimo-live eval` as users run it: a server, a stand-in model and calls in real time."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.trace import lines as trace
from client.evaluation import evaluation, plot
from client.evaluation.plot import PlotError
from client.evaluation.recordings import SHIPPED
from tests.drivers.processes import ROOT

pytestmark = pytest.mark.system


@pytest.mark.realtime
def test_calls_in_real_time_give_figures_a_trace_and_a_picture(tmp_path: Path):
    audio = tmp_path / "audio"
    audio.mkdir()
    for name in ("hello_world", "help_me", "LJ001-0008"):
        shutil.copy(SHIPPED / f"{name}.wav", audio)
    (audio / "LJ001-0008.scv").write_text("LJ001-0008,0.000,0.010,0,0.010,1.670,1,1.670,1.780,0")
    figures, lines, picture = (tmp_path / name for name in ("f.json", "t.jsonl", "p.png"))
    words = [
        "--scenarios",
        "turn/hello_world,interruption/help_me,vad",
        "--audio",
        str(audio),
        "--at-once",
        "1",
    ]
    words += ["--json", str(figures), "--trace", str(lines), "--plot", str(picture)]
    command = [sys.executable, "-m", "client.cli", "eval", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    found = json.loads(figures.read_text())
    assert found["scenarios"] == 2
    assert found["response_rate"] == found["yield_rate"] == 1
    assert found["voice_to_voice_p50_ms"] > 0
    assert found["vad_recall"] > 0.9
    assert found["audible_before_verdict"] == found["audio_after_interruption"] == 0
    assert {line.split()[0] for line in done.stdout.splitlines()} == set(found)

    read = list(trace.decode(lines.read_bytes().splitlines()))
    sources = {line.source for line in read}
    assert sources == {"caller", "client", "server"}
    kinds = {json.loads(bytes(line.what)).get("type") for line in read}
    assert {"input_audio_buffer.append", "response.done", "conversation.item.truncate"} <= kinds
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--scenarios", "nonsense"], "no scenario is named nonsense; choose from: turn/"),
        (["--audio", str(ROOT / "docs")], "no WAV files in this folder or its subfolders"),
        (["--url", "ws://127.0.0.1:9", "--scenarios", "turn/hello_world"], "can't reach"),
    ],
    ids=["an unknown scenario", "a folder without recordings", "no server"],
)
def test_what_cannot_be_evaluated_is_said(
    words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
):
    assert evaluation.main(words) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert problem in shown.err


def test_a_picture_without_matplotlib_is_refused_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PlotError, match="needs matplotlib"):
        plot.require()
