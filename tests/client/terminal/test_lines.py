"""A conversation in lines: on terminals that obey codes, on those that don't, and narrow ones."""

import io
import re

import pytest

from client.dialogue.latency import Latency
from client.terminal.lines import Terminal
from client.terminal.view import State, Status, cells


class Glass(io.StringIO):
    """A terminal; keeps what was written."""

    def isatty(self) -> bool:
        return True

    def rows(self) -> list[str]:
        """The texts between redraws and line ends, without colours."""
        return re.split(r"\r\x1b\[K|\n", re.sub(r"\x1b\[\d*m", "", self.getvalue()))


@pytest.mark.parametrize("kind", ["dumb", "unknown", "", None])
def test_a_terminal_that_obeys_no_codes_gets_plain_lines(
    kind: str | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("TERM", raising=False)
    if kind is not None:
        monkeypatch.setenv("TERM", kind)
    glass = Glass()
    terminal = Terminal(glass, glass)
    terminal.progress("starting", 1.0)
    terminal.progress("starting", 2.0)
    terminal.status(Status("listening", 0.1, 0.1))
    terminal.caption("user", "Hello?")
    terminal.caption("agent", "Hello, how", cut=True)
    terminal.problem("no microphone")
    terminal.close()
    assert not terminal.is_live
    assert glass.getvalue() == "starting …\n  you  Hello?\nagent  Hello, how —\nno microphone\n"


def test_each_visitor_of_a_kiosk_is_told_the_same():
    log = io.StringIO()
    terminal = Terminal(log, log)
    for _ in range(2):
        terminal.stage("visit", "I listen.")
        for state in ("Reconnecting…", "Reconnecting…", ""):
            terminal.connection(state)
        for left_s in (10, 9):
            terminal.countdown("Is anybody there?", left_s)
    visit = "I listen.\nReconnecting…\nconnected again\nIs anybody there? 10 s are left.\n"
    assert log.getvalue() == visit * 2


@pytest.mark.parametrize("columns", [12, 20, 40, 60, 80, 200])
@pytest.mark.parametrize("state", ["listening", "thinking", "speaking", "overlap"])
def test_the_live_line_is_one_line_at_every_width(
    columns: int, state: State, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    glass = Glass()
    terminal = Terminal(glass, glass)
    terminal.turn(1, None, Latency(1040, 580, 450, 10, 610))
    words = "one two\nthree 多瑙河轮船公司船长遗孀养老金申请这就是你要的中文说法 four"
    before = len(glass.rows())
    terminal.status(Status(state, 1.0, 1.0, saying=words))
    [row] = glass.rows()[before:]
    assert cells(row) < columns
    assert ("mic ██████" in row) == (columns >= 40)
    assert row.endswith("four") == (columns >= 60)
    assert ("Listening…" in row) == (state == "listening" and columns >= 20)


def test_words_from_outside_can_neither_colour_nor_command_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    glass = Glass()
    terminal = Terminal(glass, glass)
    terminal.caption("agent", "a\x1b[2Jb\x9b2Jc\x07")
    terminal.problem("d\x1b]0;e\x07")
    terminal.connection("f\x1b[31m")
    assert [row for row in glass.rows() if row] == ["agent  a [2Jb 2Jc ", "d ]0;e ", "f [31m"]
