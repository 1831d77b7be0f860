"""What an evaluation prints: its progress, and the table of figures with their bars."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple, TextIO

from client.evaluation.figures import Figures


class Bar(NamedTuple):
    """What a figure should be at most, or at least."""

    limit: float
    at_least: bool = False

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


BARS = {
    "voice_to_voice_p50_ms": Bar(550),
    "voice_to_voice_p95_ms": Bar(900),
    "false_cutoffs_600ms": Bar(0.10),
    "response_rate": Bar(1.0, at_least=True),
    "yield_rate": Bar(0.98, at_least=True),
    "yield_latency_p50_ms": Bar(250),
    "talks_through_backchannels": Bar(0.90, at_least=True),
    "talks_through_noises": Bar(0.90, at_least=True),
    "talks_through_side_talk": Bar(0.65, at_least=True),
    "self_interruptions": Bar(0),
    "short_words_missed": Bar(0),
    "audible_before_verdict": Bar(0),
    "audio_after_interruption": Bar(0),
}


def table(found: Figures) -> str:
    """One line a figure: name, value, bar, and whether it is met."""
    width = max(map(len, found))
    return "\n".join(_row(name, value, width) for name, value in found.items())


def _row(name: str, value: float | None, width: int) -> str:
    shown = "-" if value is None else f"{value:g}" if value >= 10 else f"{value:.3g}"
    bar = BARS.get(name)
    verdict = "" if bar is None or value is None else ("met" if bar.is_met(value) else "MISSED")
    return f"{name:{width}}  {shown:>8}  {'' if bar is None else bar!s:8}  {verdict}".rstrip()


class Progress:
    """A live line on a terminal; elsewhere a line for each thing that begins."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._live = stream.isatty()
        self._running: list[str] = []
        self._done = 0
        self._waiting = ""
        self.total = 0

    @contextmanager
    def on(self, name: str) -> Generator[None]:
        """Show a scenario for as long as it runs."""
        self._running.append(name)
        self._show(f"{self._done + len(self._running)}/{self.total}  {'  '.join(self._running)}")
        yield
        self._running.remove(name)
        self._done += 1
        if self._live and self._done == self.total:
            self._stream.write("\r\x1b[K")

    def waiting(self, what: str, _elapsed_s: float) -> None:
        if what != self._waiting:
            self._waiting = what
            self._show(what)

    def problem(self, text: str) -> None:
        start = "\r\x1b[K" if self._live else ""
        print(f"{start}{text}", file=self._stream, flush=True)

    def _show(self, text: str) -> None:
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[K{text[:width]}")
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()
