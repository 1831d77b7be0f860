"""A recorded session held again, to see whether it still comes to the same decisions."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import NamedTuple, TypeVar

import msgspec

from agent.commands import Command
from agent.errors import ModelError, ProtocolError
from agent.model.output import Ended, Failed, Output, Sound, Text, TextEnded
from agent.realtime import client_events as protocol
from agent.realtime.resumption import Position
from agent.trace.inputs import (
    Busy,
    DeadlinePassed,
    FromModel,
    Input,
    Judged,
    Overheard,
    Returned,
    Transcribed,
    feed,
)
from agent.trace.lines import Line, TraceError
from agent.trace.recorder import ENDED, ModelLine, Recorder, Refused, Setup

T = TypeVar("T")

DECISIONS = ("id", "server", "request")
"""The sources of what a session did itself."""


class Difference(NamedTuple):
    """A decision as it was recorded, and as it is taken now; `None` if there is none."""

    recorded: Line | None
    now: Line | None


@dataclass(slots=True)
class Step:
    """One input of a session, and what came of it when it was recorded and comes of it now."""

    at_s: float
    """On the clock of the trace."""
    since_s: float
    """Since the session began."""
    taken: Setup | Input
    recorded: list[Line] = field(default_factory=list[Line])
    again: list[Line] = field(default_factory=list[Line])
    commands: list[Command] = field(default_factory=list[Command])
    is_whole: bool = True
    """Whether the trace is known to go on behind it, or to be over."""

    @property
    def difference(self) -> Difference | None:
        """The first decision that isn't the same; of ids only if all else is."""
        recorded, again = self.recorded, self.again
        if not self.is_whole:
            again = again[: len(recorded)]
        decided = ([line for line in lines if line.source != "id"] for lines in (recorded, again))
        return _first_difference(*decided) or _first_difference(recorded, again)


def _first_difference(recorded: list[Line], again: list[Line]) -> Difference | None:
    for before, now in zip_longest(recorded, again):
        if before != now:
            return Difference(before, now)
    return None


def replay(lines: Iterable[Line]) -> Iterator[Step]:
    """Hold a recorded session again, input by input.

    Past a difference there is nothing to compare: the session is held no further, and the steps
    tell only what was recorded.

    Raises:
        TraceError: If the trace isn't one of a session.
    """
    ids: deque[str] = deque()
    found: list[Line] = []

    def new_id(kind: str) -> str:
        # One that wasn't recorded makes a difference in its own step.
        return ids.popleft() if ids else f"{kind}_unrecorded"

    recorder = Recorder(found.append, new_id)
    session = None
    differs = False
    for step in _steps(lines):
        if differs:
            yield step
            continue
        ids.extend(_read(line, str) for line in step.recorded if line.source == "id")
        if isinstance(step.taken, Setup):
            recorder.began(step.taken, step.at_s)
            session = step.taken.session(recorder.new_id)
            step.commands = session.open()
        elif session is not None:
            recorder.took(step.taken, step.at_s)
            step.commands = feed(session, step.taken, step.at_s)
        recorder.decided(step.commands)
        step.again = decisions(found)
        found.clear()
        differs = step.difference is not None
        yield step


def decisions(lines: Iterable[Line]) -> list[Line]:
    """Keep the lines of what a session did itself."""
    return [line for line in lines if line.source in DECISIONS]


def _steps(lines: Iterable[Line]) -> Iterator[Step]:
    """Group the lines, each input with what was recorded of its consequences."""
    step, began_s = None, 0.0
    for line in lines:
        taken = _input(line)
        if step is None and not isinstance(taken, Setup):
            raise TraceError("the trace doesn't begin with its session's configuration")
        if step is not None and line.source in DECISIONS:
            step.recorded.append(line)
        elif taken is not None:
            if step is not None:
                yield step
            else:
                began_s = line.at_s
            step = Step(line.at_s, line.at_s - began_s, taken)
        elif step is not None and line.source == "session":
            yield step
            return
    if step is None:
        raise TraceError("the trace is empty")
    step.is_whole = False
    yield step


def _input(line: Line) -> Setup | Input | None:
    """Read an input back; `None` if the line is none."""
    match line.source:
        case "session":
            return None if bytes(line.what) == _ENDED else _read(line, Setup)
        case "client":
            return _event(line)
        case "sound":
            return protocol.BinaryAppend(audio=_read(line, bytes))
        case "refused":
            refused = _read(line, Refused)
            return ProtocolError(
                refused.message, code=refused.code, param=refused.param, event_id=refused.event_id
            )
        case "speech":
            return Judged(_read(line, float))
        case "model":
            return _from_model(_read(line, ModelLine))
        case "transcript":
            return _read(line, Transcribed)
        case "overheard":
            return _read(line, Overheard)
        case "resumed":
            return Returned(_read(line, Position))
        case "busy":
            return Busy(_read(line, bool))
        case "deadline":
            return DeadlinePassed()
        case _:
            return None


_ENDED = msgspec.json.encode(ENDED)


def _event(line: Line) -> protocol.AnyClientEvent:
    try:
        return protocol.decode(bytes(line.what))
    except ProtocolError as error:
        raise TraceError(f"client event at {line.at_s} s: {error}") from error


def _from_model(said: ModelLine) -> FromModel:
    output: Output = Ended(said.usage, said.cut_short)
    if said.text is not None:
        output = Text(said.text)
    elif said.sound is not None:
        output = Sound(said.sound)
    elif said.failed is not None:
        message, code = said.failed
        output = Failed(ModelError(message, code=code))
    elif said.text_cut is not None:
        output = TextEnded(said.text_cut)
    return FromModel(said.response_id, output)


def _read(line: Line, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(line.what, type=kind)
    except msgspec.DecodeError as error:
        raise TraceError(f"{line.source} event at {line.at_s} s: {error}") from error
