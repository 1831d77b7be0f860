"""What the screen has to show: written by the conversation's thread, read by the screen's."""

import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from client.jitter import Heard
from client.latency import Latency
from client.view import Speaker, Status, printable

Kind = Literal["user", "agent", "quiet", "problem"]
LATENCIES = 24
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
    """What the agent is saying, up to the word that is being heard."""
    status: Status
    connection: str
    latencies: list[Latency]


def quiet_status() -> Status:
    return Status("listening", 0.0, 0.0)


@dataclass
class _Speech:
    """What the agent is saying."""

    text: str = ""
    complete: bool = False
    dead: bool = False
    """It was cut: its caption is yet to come, and means nothing any more."""

    def begin(self, text: str) -> None:
        self.dead = False
        self.text += text

    def end(self, text: str) -> None:
        if self.dead:
            self.dead = False
            return
        self.text, self.complete = text, True

    def cut(self, spoken: float) -> str:
        """End it where it was heard; return the words up to there."""
        heard = self.until(spoken)
        self.text, self.complete, self.dead = "", False, not self.complete
        return heard

    def until(self, spoken: float) -> str:
        """The words up to a share of the whole, and the one that is being said."""
        end = round(len(self.text) * max(0.0, min(1.0, spoken)))
        word = self.text.find(" ", end)
        return self.text if word < 0 else self.text[:word]


@dataclass
class Board:
    """A `View` that may be read from another thread."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _lines: list[Line] = field(default_factory=list[Line])
    _said: deque[str] = field(default_factory=lambda: deque[str](maxlen=REMEMBERED))
    _status: Status = field(default_factory=quiet_status)
    _connection: str = "connecting"
    _latencies: deque[Latency] = field(default_factory=lambda: deque[Latency](maxlen=LATENCIES))
    _user: str = ""
    _agent: _Speech = field(default_factory=_Speech)

    def caption(self, who: Speaker, text: str) -> None:
        with self._lock:
            if who == "user":
                self._user = ""
                self._add("user", text)
            else:
                self._agent.end(text)
                self._finish_agent()

    def partial(self, who: Speaker, text: str) -> None:
        with self._lock:
            if who == "user":
                self._user += text
                return
            if self._agent.text and self._agent.complete:
                self._add("agent", self._agent.text)
                self._agent = _Speech()
            self._agent.begin(text)

    def interrupted(self, heard: Heard) -> None:
        with self._lock:
            spoken = self._agent.cut(self._status.spoken)
            if spoken:
                self._add("agent", f"{spoken} —")

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
            self._finish_agent()

    def take(self) -> News:
        """What is to be drawn now."""
        with self._lock:
            lines, self._lines = self._lines, []
            return News(
                lines,
                printable(self._user),
                printable(self._agent.until(self._status.spoken)),
                self._status,
                printable(self._connection),
                list(self._latencies),
            )

    def transcript(self) -> str:
        """All that was said, one line each, with the time of day."""
        with self._lock:
            return "\n".join(self._said) + "\n"

    def _finish_agent(self) -> None:
        """Once an answer has been heard to its end, it is a line like any other."""
        silent = self._status.state in ("listening", "thinking")
        if self._agent.complete and silent:
            self._add("agent", self._agent.text or "…")
            self._agent = _Speech()

    def _add(self, kind: Kind, text: str) -> None:
        text = printable(text)
        self._lines.append(Line(kind, text))
        if kind in ("user", "agent"):
            self._said.append(f"{datetime.now():%H:%M:%S}  {kind:>5}  {text}")
