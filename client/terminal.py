"""What the person at the terminal sees: captions, latencies, and one live line below them.

Three forms of the same: lines for pipes and logs, one JSON object a line for scripts, and
on a terminal a last line that is redrawn in place.
"""

import json
import math
import os
import shutil
from dataclasses import asdict
from typing import TextIO

from agent.audio import milliseconds
from client.jitter import Heard
from client.latency import Latency

NAMES = {"user": "you", "agent": "agent"}
COLOURS = {"user": "36", "agent": "32", "quiet": "2", "problem": "31", "meter": "34"}
BARS = " ▁▂▃▄▅▆▇█"
FLOOR_DB = -60.0


class Terminal:
    """Prints a conversation to `out`; with `as_json`, everything else goes to `err`."""

    def __init__(self, out: TextIO, err: TextIO, *, as_json: bool = False):
        self._out = out
        self._err = err
        self._as_json = as_json
        self.is_live = out.isatty() and not as_json
        self._coloured = self.is_live and not os.environ.get("NO_COLOR")
        self._partial = ""
        self._last_latency = ""
        self._progress = ""

    def caption(self, who: str, text: str) -> None:
        """Print what one side said; `who` is `"user"` or `"agent"`."""
        if who == "agent":
            self._partial = ""
        if self._as_json:
            self._json(event="caption", who=who, text=text)
        else:
            self._line(f"{self._in_colour(who, f'{NAMES[who]:>5}')}  {text or '…'}")

    def partial(self, text: str) -> None:
        """Take the next words of the agent's caption; they show in the live line only."""
        self._partial += text

    def interrupted(self, heard: Heard) -> None:
        heard_ms = milliseconds(heard.samples)
        self._partial = ""
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
        parts = (
            f"endpointing {latency.endpointing_ms}, model {latency.model_ms}, "
            f"playout {latency.playout_ms} ms"
        )
        answered = f"turn {number} answered after {latency.voice_to_voice_ms} ms"
        self._line(self._quiet(f"{answered} ({parts})"))

    def unanswered(self, number: int, name: str, reason: str) -> None:
        if self._as_json:
            self._json(event="turn", turn=number, file=name, answered=False, reason=reason)
        else:
            self.problem(f"turn {number} ({name}) was not answered: {reason}")

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
        elif waiting_for != self._progress:
            self._progress = waiting_for
            self.note(f"{waiting_for} …")

    def status(self, state: str, microphone: float, loudspeaker: float) -> None:
        """Redraw the live line; the levels are root mean squares from 0.0 to 1.0."""
        if not self.is_live:
            return
        meters = f"mic {self._meter(microphone)}  ear {self._meter(loudspeaker)}"
        left = f" {state:<9}  "
        room = shutil.get_terminal_size().columns - len(left) - 20 - 10
        latency = self._last_latency and f"  {self._last_latency}"
        words = self._partial[-max(room, 0) :] if room > 0 else ""
        self._redraw(f"{left}{meters}{self._quiet(latency)}  {self._quiet(words)}")

    def close(self) -> None:
        """Leave the cursor at the start of an empty line."""
        if self.is_live:
            self._redraw("")

    def _line(self, text: str, to: TextIO | None = None) -> None:
        stream = to or self._out
        if self.is_live:
            self._redraw("")
        print(text, file=stream, flush=True)

    def _redraw(self, text: str) -> None:
        self._out.write(f"\r\x1b[K{text}")
        self._out.flush()

    def _json(self, **fields: object) -> None:
        print(json.dumps(fields, ensure_ascii=False), file=self._out, flush=True)

    def _meter(self, loudness: float) -> str:
        """Six cells, each 10 dB; the last lit one rises in eighths."""
        decibels = 20 * math.log10(loudness) if loudness > 0 else FLOOR_DB
        eighths = round(max(0.0, min(1.0, 1 - decibels / FLOOR_DB)) * 6 * 8)
        cells = [BARS[max(0, min(8, eighths - 8 * cell))] for cell in range(6)]
        return self._in_colour("meter", "".join(cells))

    def _quiet(self, text: str) -> str:
        return self._in_colour("quiet", text) if text else ""

    def _in_colour(self, name: str, text: str) -> str:
        return f"\x1b[{COLOURS[name]}m{text}\x1b[0m" if self._coloured else text
