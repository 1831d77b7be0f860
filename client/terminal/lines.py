"""A conversation in lines of text: captions, latencies, and one live line below them.

Three forms of the same: lines for pipes and logs, one JSON object a line for scripts, and
on a terminal a last line that is redrawn in place, where there is no live screen.
"""

import json
import os
import shutil
from dataclasses import asdict
from typing import TextIO

from agent.audio import milliseconds
from agent.shown import escaped, printable
from client.dialogue.jitter import Heard
from client.dialogue.latency import Latency
from client.terminal.meter import meter
from client.terminal.view import STATE_WORDS, Speaker, Status, cells

NAMES = {"user": "you", "agent": "agent"}
COLOURS = {"user": "36", "agent": "32", "quiet": "2", "problem": "31", "meter": "34"}
METER_CELLS = 6
"""Wider ones would take the place of words in a narrow terminal."""
DUMB = ("", "dumb", "unknown")
"""Values of TERM: such a terminal obeys no codes, so nothing can be redrawn in it."""


class Terminal:
    """Prints a conversation to `out`; with `as_json`, everything else goes to `err`."""

    def __init__(self, out: TextIO, err: TextIO, *, as_json: bool = False):
        self._out = out
        self._err = err
        self._as_json = as_json
        obeys = os.environ.get("TERM", "") not in DUMB
        self.is_live = out.isatty() and obeys and not as_json
        self._coloured = self.is_live and not os.environ.get("NO_COLOR")
        self._last_latency = ""
        self._told: dict[str, str] = {}
        """What was told last, of each thing that is told when it changes."""

    def caption(self, who: Speaker, text: str, *, cut: bool = False) -> None:
        """Print what one side said."""
        if self._as_json:
            self._json(event="caption", who=who, text=text)
        else:
            words = f"{printable(text) or '…'}{' —' if cut else ''}"
            self._line(f"{self._in_colour(who, f'{NAMES[who]:>5}')}  {words}")

    def partial(self, text: str) -> None: ...

    def interrupted(self, heard: Heard) -> None:
        heard_ms = milliseconds(heard.samples)
        if self._as_json:
            self._json(event="interrupted", item_id=heard.item_id, audio_end_ms=heard_ms)
        else:
            self._line(self._quiet(f"interrupted after {heard_ms / 1000:.2f} s of the answer"))

    def turn(self, number: int, name: str | None, latency: Latency) -> None:
        """Print the latency of an answer; `name` is the file that asked, if one did."""
        if self._as_json:
            self._json(event="turn", turn=number, file=name, answered=True, **asdict(latency))
            return
        self._last_latency = f"{latency.voice_to_voice_ms / 1000:.2f} s"
        parts = ", ".join(f"{name} {words}" for name, words in latency.parts.items())
        answered = f"turn {number} answered after {latency.voice_to_voice_ms} ms"
        self._line(self._quiet(f"{answered} ({parts} ms)"))

    def unanswered(self, number: int, name: str, reason: str) -> None:
        if self._as_json:
            self._json(event="turn", turn=number, file=name, answered=False, reason=reason)
        else:
            self.problem(f"turn {number} ({name}) was not answered: {reason}")

    def connection(self, state: str) -> None:
        if self._as_json:
            self._json(event="connection", state=state or "connected")
        elif self._is_news("connection", state):
            self.note(self._quiet(state or "connected again"))

    def problem(self, text: str) -> None:
        if self._as_json:
            self._json(event="error", message=text)
        self._line(self._in_colour("problem", text), self._err)

    def note(self, text: str) -> None:
        self._line(text, self._err if self._as_json else self._out)

    def progress(self, waiting_for: str, elapsed_s: float) -> None:
        """Show what is being waited for: redrawn when live, else one line for each thing."""
        if self.is_live:
            self._redraw(self._quiet(f"{waiting_for} … {elapsed_s:.0f} s"))
        elif self._is_news("progress", waiting_for):
            self.note(f"{waiting_for} …")

    def status(self, status: Status) -> None:
        """Redraw the live line; for scripts, print each change of the state."""
        if self._as_json and self._is_news("state", status.state):
            self._json(event="state", state=status.state)
        if not self.is_live:
            return
        room = shutil.get_terminal_size().columns - 1
        line = ""
        for colour, name, words in (
            ("", f" {STATE_WORDS[status.state]:<18}", ""),
            ("meter", "  mic ", meter(status.microphone, METER_CELLS)),
            ("meter", "  ear ", meter(status.loudspeaker, METER_CELLS)),
            ("quiet", "  ", self._last_latency),
        ):
            room -= cells(name + words)
            line += name + self._in_colour(colour, words) if room >= 0 else ""
        self._redraw(line + self._quiet(_last_words(f"  {status.saying}", room)))

    def stage(self, name: str, text: str) -> None:
        """Show the next picture of a kiosk; the one before is gone, from the scroll-back too."""
        self._last_latency = ""
        self._told.clear()
        if self._as_json:
            self._json(event="kiosk", stage=name, text=text)
            return
        if self.is_live:
            self._out.write("\x1b[H\x1b[2J\x1b[3J")
        self._line(text)

    def countdown(self, text: str, left_s: int) -> None:
        """Show how much time is left: redrawn when live, else said once."""
        if self._as_json:
            self._json(event="countdown", left_s=left_s)
        elif self.is_live:
            self._redraw(self._in_colour("problem", f"{text} {left_s}"))
        elif self._is_news("progress", text):
            self._line(f"{text} {left_s} s are left.")

    def close(self) -> None:
        """Leave the cursor at the start of an empty line."""
        if self.is_live:
            self._redraw("")

    def _is_news(self, of: str, text: str) -> bool:
        before, self._told[of] = self._told.get(of, ""), text
        return text != before

    def _line(self, text: str, to: TextIO | None = None) -> None:
        stream = to or self._out
        if self.is_live:
            self._redraw("")
        print(text, file=stream, flush=True)

    def _redraw(self, text: str) -> None:
        self._out.write(f"\r\x1b[K{text}")
        self._out.flush()

    def _json(self, **fields: object) -> None:
        print(escaped(json.dumps(fields, ensure_ascii=False)), file=self._out, flush=True)

    def _quiet(self, text: str) -> str:
        return self._in_colour("quiet", text) if text else ""

    def _in_colour(self, name: str, text: str) -> str:
        text = printable(text)
        coloured = self._coloured and name in COLOURS
        return f"\x1b[{COLOURS[name]}m{text}\x1b[0m" if coloured else text


def _last_words(text: str, room: int) -> str:
    """The end of a text, in one line and at most so many columns."""
    text = text.replace("\n", " ")[-room:] if room > 0 else ""
    while cells(text) > room > 0:
        text = text[1:]
    return text
