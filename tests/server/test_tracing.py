"""Every session recorded by a real server, and held again by `mimo-live replay`."""

import asyncio
import fcntl
import gzip
import shutil
import subprocess
from collections.abc import Callable, Generator
from itertools import takewhile
from pathlib import Path

import pytest

from agent.audio import RATE, SAMPLE_BYTES, read_wav
from agent.trace.lines import decode
from client.evaluation import replay
from server import settings
from server.tracing import File, Folder
from tests.drivers.model_client import DATA
from tests.drivers.processes import ROOT
from tests.fakes import Reply, StandIn, stand_in
from tests.server.session.test_resume import DELTA, address, client, line, run, serve

pytestmark = pytest.mark.system

SILENCE = bytes(RATE * SAMPLE_BYTES)
STILL_BEING_MADE = Reply(groups=60, chunk_groups=1, rtf=0.3)
"""For 3 s, in which it is interrupted, or its client lost."""


@pytest.fixture(scope="module")
def model() -> Generator[StandIn]:
    with stand_in() as model:
        model.reply = STILL_BEING_MADE
        yield model


def said(name: str) -> bytes:
    return read_wav((DATA / f"{name}.wav").read_bytes()) + SILENCE


async def converse(url: str, tell: Callable[[str], None]) -> None:
    """Ask, interrupt the answer, lose the connection in the next one, come back."""
    async with client(url) as first:
        tell(first.session_id)
        await first.start({"type": "server_vad"})
        await first.append(said("weather_question"))
        await first.until(DELTA, 3)
        await first.append(said("hello_world"))
        done = await first.until("response.done")
        assert done["response"]["status"] == "cancelled"
        await first.until(DELTA)
        await first.send("nonsense")
        first.cut_line()
    async with client(url, resume=first.token, after=first.last_id) as second:
        assert second.session_id == first.session_id
        await second.until("response.done")


async def be_cut_off(process: subprocess.Popen[str], url: str, folder: Path) -> None:
    """Talk until the answer is in the trace, and kill the server."""
    async with client(url) as caller:
        await caller.start({"type": "server_vad"})
        await caller.append(said("weather_question"))
        await caller.until("response.done")
        while b"response.done" not in await asyncio.to_thread(recorded, folder, caller.session_id):
            await caller.synchronise()
        process.kill()


def recorded(folder: Path, session_id: str) -> bytes:
    """What can be read so far of a session's trace."""
    return b"".join(text for file in folder.glob(f"*{session_id}*") for text in replay.texts(file))


@pytest.fixture(scope="module")
def traces(model: StandIn, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of such a conversation, and of one with a server that was killed."""
    home = tmp_path_factory.mktemp("trace")
    folder = home / "made" / "traces"
    more = f'[trace]\nfolder = "{folder}"\n[persona]\nvoice = "{DATA / "hello_world.wav"}"'
    with serve(home, model.url, 60.0, more) as process:
        url, found = address(process), list[str]()
        run(lambda: converse(url, found.append))
        line(process, f"{found[0]} closed")
        run(lambda: be_cut_off(process, url, folder))
    return sorted(folder.iterdir(), key=lambda file: found[0] not in file.name)


@pytest.fixture
def trace(traces: list[Path]) -> Path:
    return traces[0]


def test_each_session_has_a_file_that_nobody_else_can_read(traces: list[Path]):
    assert len(traces) == 2
    assert {file.stat().st_mode & 0o777 for file in traces} == {0o600}
    assert traces[0].parent.stat().st_mode & 0o777 == 0o700


def test_a_recorded_conversation_is_held_again_with_the_same_decisions(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    picture = tmp_path / "session.png"
    assert replay.main([str(trace), "--plot", str(picture)]) == 0
    head, one, two, back, verdict = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["turn", "at", "endpointing"]
    assert "cancelled, " in one
    assert "completed, 9.6 s" in two
    assert "the client came back" in back
    assert verdict.startswith("all ")
    assert "cut off" not in verdict
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_what_is_decided_otherwise_is_told_with_its_time(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    lines = gzip.decompress(trace.read_bytes())
    assert b'"threshold":0.5' in lines
    other = tmp_path / "other.jsonl"
    other.write_bytes(lines.replace(b'"silence_duration_ms":500', b'"silence_duration_ms":700'))
    assert replay.main([str(other)]) == 3
    *_, where, before, now = capsys.readouterr().out.splitlines()
    assert "input_audio_buffer.speech_stopped" in before
    assert now.split() == ["now", "nothing"]
    began, *_ = told = list(decode(lines.splitlines()))
    at_s = next(each.at_s for each in told if b"speech_stopped" in bytes(each.what))
    assert where == f"differs at {at_s - began.at_s:.3f} s:"


@pytest.mark.parametrize("share", [1.0, 0.5], ids=["killed", "cut anywhere"])
def test_a_trace_without_an_end_is_the_same_as_far_as_it_goes(
    share: float, traces: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    packed = traces[1].read_bytes()
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(packed[: int(len(packed) * share)])
    assert replay.main([str(cut)]) == 0
    assert "where the trace was cut off" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content",
    [b"", b"\x1f\x8b\x08\0\0\0\0\0\0\0\xff\xff", b"{}\n"],
    ids=["empty", "broken", "none"],
)
def test_what_is_no_trace_is_refused(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "no.jsonl"
    file.write_bytes(content)
    assert replay.main([str(file)]) == 1
    assert capsys.readouterr().err.startswith("mimo-live replay: ")


def test_a_session_goes_on_without_a_trace_that_cannot_be_written(model: StandIn, tmp_path: Path):
    folder = tmp_path / "traces"
    # No file of the server may grow beyond 8 KiB.
    before = ["bash", "-c", 'ulimit -f 8; exec "$@"', "-"]
    more = f'[trace]\nfolder = "{folder}"'
    with serve(tmp_path, model.url, 60.0, more, before) as process:
        url, found = address(process), list[str]()
        for _ in range(2):
            run(lambda: converse(url, found.append))
            assert process.stdout is not None
            told = list(takewhile(lambda each: f"{found[-1]} closed" not in each, process.stdout))
            complaints = [each for each in told if "WARNING" in each]
            assert len(complaints) == 1
            assert f"{found[-1]}: recording stopped" in complaints[0]
            # The next one can't even make its folder.
            shutil.rmtree(folder, ignore_errors=True)
            folder.touch()


def test_the_oldest_traces_are_deleted_first_and_nothing_else(tmp_path: Path):
    names = [f"2026112{day}T000000Z_sess_{day}.jsonl.gz" for day in range(4)]
    for name in (*names, "notes.txt"):
        (tmp_path / name).write_bytes(bytes(1_000))
    # Any process may be writing one.
    with (tmp_path / names[0]).open("rb") as written:
        fcntl.flock(written, fcntl.LOCK_EX)
        Folder(tmp_path, 2_500).make_room()
    assert sorted(each.name for each in tmp_path.iterdir()) == [names[0], names[3], "notes.txt"]


def test_running_sessions_that_fill_the_space_go_on_without_a_trace(tmp_path: Path):
    file = File(Folder(tmp_path, 5), "2026_sess_1.jsonl.gz")
    file.write(bytearray(b"{}\n"))
    second = File(Folder(tmp_path, 5), "2027_sess_2.jsonl.gz")
    with pytest.raises(OSError, match="keep_mb"):
        second.write(bytearray(b"{}\n"))
    file.close()
    assert [each.name for each in tmp_path.iterdir()] == ["2026_sess_1.jsonl.gz"]


def test_nothing_is_recorded_at_a_kiosk():
    assert not settings.load(ROOT / "configs" / "kiosk.toml").trace.folder
