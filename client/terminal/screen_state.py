"""What the screen has to show: written by the conversation's thread, read by the screen's."""

import threading
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, NamedTuple

from agent.shown import printable
from client.dialogue.jitter import Heard
from client.dialogue.latency import Latency
from client.terminal.view import Speaker, Status

Kind = Literal["user", "agent", "quiet", "problem"]
LATENCIES = 24
"""Bars of the sparkline; more would take the place of the parts beside it."""
REMEMBERED = 5000
"""Lines that can be saved; hours of conversation."""


class Line(NamedTuple):
    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class News:
    """All there is to draw; `lines` are those that no draw has shown yet."""

    lines: list[Line]
    user: str
    """What the user is saying."""
    agent: str
    """What the agent is saying, as far as it was heard."""
    status: Status
    connection: str
    latencies: list[Latency]


def quiet_status() -> Status:
    return Status("listening", 0.0, 0.0)


@dataclass
class ScreenState:
    """A `View` that may be read from another thread."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _lines: list[Line] = field(default_factory=list[Line])
    _said: deque[str] = field(default_factory=lambda: deque[str](maxlen=REMEMBERED))
    _status: Status = field(default_factory=quiet_status)
    _connection: str = "connecting"
    _latencies: deque[Latency] = field(default_factory=lambda: deque[Latency](maxlen=LATENCIES))
    _user: str = ""

    def caption(self, who: Speaker, text: str, *, cut: bool = False) -> None:
        with self._lock:
            if who == "user":
                self._user = ""
            else:
                self._status = replace(self._status, saying="")
            self._add(who, f"{text or '…'}{' —' if cut else ''}")

    def partial(self, text: str) -> None:
        with self._lock:
            self._user += text

    def interrupted(self, heard: Heard) -> None: ...

    def turn(self, number: int, name: str | None, latency: Latency) -> None:
        with self._lock:
            self._latencies.append(latency)

    def connection(self, state: str) -> None:
        with self._lock:
            self._connection = state

    def problem(self, text: str) -> None:
        with self._lock:
            self._add("problem", text)

    def note(self, text: str) -> None:
        with self._lock:
            self._add("quiet", text)

    def status(self, status: Status) -> None:
        with self._lock:
            self._status = status

    def take(self) -> News:
        """What is to be drawn now."""
        with self._lock:
            lines, self._lines = self._lines, []
            return News(
                lines,
                printable(self._user),
                printable(self._status.saying),
                self._status,
                printable(self._connection),
                list(self._latencies),
            )

    def transcript(self) -> str:
        """All that was said, one line each, with the time of day."""
        with self._lock:
            return "\n".join(self._said) + "\n"

    def _add(self, kind: Kind, text: str) -> None:
        text = printable(text)
        self._lines.append(Line(kind, text))
        if kind in ("user", "agent"):
            self._said.append(f"{datetime.now():%H:%M:%S}  {kind:>5}  {text}")
