"""A session recorded and held again: what it takes in and decides, as lines of a trace.

A session reads no clock and draws no chance, so the same inputs at the same times, with the
same ids, lead to the same decisions. Requests are recorded without the sound in them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from msgspec import Struct

from agent import protocol, trace
from agent.audio import SAMPLE_BYTES
from agent.commands import AbortModel, AskModel, Close, Command, Send, Transcribe, refuse
from agent.errors import ModelError, ProtocolError
from agent.mimo import Ended, Failed, Output, Sound, Text, TextEnded
from agent.session import Session
from agent.trace import Line, Source, TraceError


@dataclass(frozen=True, slots=True)
class Judged:
    """The probability of speech in the next frame of the microphone."""

    probability: float


@dataclass(frozen=True, slots=True)
class FromModel:
    response_id: str
    output: Output


class Transcribed(Struct, frozen=True):
    item_id: str
    text: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    pass


T = TypeVar("T")

Input = protocol.AnyClientEvent | Judged | FromModel | Transcribed | DeadlinePassed


def feed(session: Session, taken: Input, now: float) -> list[Command]:
    """Give a session one input, whatever it is."""
    match taken:
        case Judged(probability):
            return session.hear(probability, now)
        case FromModel(response_id, output):
            return session.from_model(response_id, output, now)
        case Transcribed():
            return session.transcribed(taken.item_id, taken.text, taken.duration_s)
        case DeadlinePassed():
            return session.pass_deadline(now)
        case protocol.InputAudioAppend():
            try:
                session.append(taken)
            except ProtocolError as error:
                return [refuse(error, taken.event_id)]
            return []
        case _:
            return session.receive(taken, now)


class Recorder:
    """Writes down a session's inputs, ids and decisions, in their order."""

    def __init__(self, note: Callable[[Line], None], new_id: Callable[[str], str]):
        self._note = note
        self._draw = new_id
        self._now = 0.0
        self._microphone = 0

    def new_id(self, kind: str) -> str:
        """Draw an id; the session is to be made with this."""
        drawn = self._draw(kind)
        self._write("id", drawn)
        return drawn

    def took(self, taken: Input, now: float) -> None:
        """Note an input, before the session is given it."""
        self._now = now
        if isinstance(taken, protocol.InputAudioAppend):
            self._microphone += len(taken.audio) // SAMPLE_BYTES
        source, what = _written(taken)
        self._write(source, what)

    def decided(self, commands: Sequence[Command]) -> None:
        """Note what the session answered to it."""
        for command in commands:
            source, what = _decision(command)
            self._write(source, what)

    def _write(self, source: Source, what: object) -> None:
        self._note(trace.line(self._now, self._microphone, source, what))


def replay(lines: Iterable[Line], make: Callable[[Callable[[str], str]], Session]) -> list[Line]:
    """Hold a recorded session again and return the lines of its decisions.

    Args:
        make: Makes the session, with what draws its ids.

    Raises:
        TraceError: If the session takes another course than the trace.
    """
    lines = list(lines)
    ids = deque(_read(line, str) for line in lines if line.source == "id")
    found: list[Line] = []

    def new_id(kind: str) -> str:
        if not ids:
            raise TraceError(f"the session draws an id for {kind} that the trace doesn't have")
        return ids.popleft()

    recorder = Recorder(found.append, new_id)
    session = make(recorder.new_id)
    recorder.decided(session.open())
    for line in lines:
        if (taken := _input(line)) is not None:
            recorder.took(taken, line.at_s)
            recorder.decided(feed(session, taken, line.at_s))
    return decisions(found)


def decisions(lines: Iterable[Line]) -> list[Line]:
    """Keep the lines that a session decided."""
    return [line for line in lines if line.source in ("server", "request")]


class _ModelLine(Struct, omit_defaults=True):
    """Output of the model: exactly one of these, or nothing at its end."""

    response_id: str
    text: str | None = None
    sound: bytes | None = None
    failed: tuple[str, str] | None = None
    text_cut: bool | None = None
    """Whether the text, which is over, was cut short."""


def _written(taken: Input) -> tuple[Source, object]:
    match taken:
        case Judged(probability):
            return "speech", probability
        case FromModel(response_id, Text(text)):
            return "model", _ModelLine(response_id, text=text)
        case FromModel(response_id, Sound(pcm)):
            return "model", _ModelLine(response_id, sound=pcm)
        case FromModel(response_id, Failed(error)):
            return "model", _ModelLine(response_id, failed=(str(error), error.code))
        case FromModel(response_id, TextEnded(cut_short)):
            return "model", _ModelLine(response_id, text_cut=cut_short)
        case FromModel(response_id, Ended()):
            return "model", _ModelLine(response_id)
        case Transcribed():
            return "transcript", taken
        case DeadlinePassed():
            return "deadline", None
        case event:
            return "client", event


def _input(line: Line) -> Input | None:
    """Read an input back; `None` if the line is none."""
    match line.source:
        case "client":
            return protocol.decode(bytes(line.what))
        case "speech":
            return Judged(_read(line, float))
        case "model":
            return _from_model(_read(line, _ModelLine))
        case "transcript":
            return _read(line, Transcribed)
        case "deadline":
            return DeadlinePassed()
        case _:
            return None


def _from_model(said: _ModelLine) -> FromModel:
    output: Output = Ended()
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


def _decision(command: Command) -> tuple[Source, object]:
    match command:
        case Send(event):
            return "server", event
        case AskModel(response_id, messages, modality, max_tokens):
            told = [(each.role, each.text, len(each.pcm) // SAMPLE_BYTES) for each in messages]
            ask = {"ask": response_id, "messages": told}
            return "request", {**ask, "modality": modality, "max_tokens": max_tokens}
        case AbortModel(response_id):
            return "request", {"abort": response_id}
        case Close(code, reason):
            return "request", {"close": code, "reason": reason}
        case Transcribe(item_id, pcm):
            return "request", {"transcribe": item_id, "samples": len(pcm) // SAMPLE_BYTES}


def _read(line: Line, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(line.what, type=kind)
    except msgspec.DecodeError as error:
        raise TraceError(f"a line of {line.source} at {line.at_s} s: {error}") from error
