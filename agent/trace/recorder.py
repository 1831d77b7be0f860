"""Writes down a session as lines of a trace: what it was made with, took in, drew and decided.

A session reads no clock and draws no chance, so this is all that holding it again takes. Of sound
that follows from other sound, and of the speech in requests, only the length is kept.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct, structs

from agent.audio import SAMPLE_BYTES
from agent.commands import (
    LONGEST_COMPLAINT,
    AbortModel,
    AskModel,
    Close,
    Command,
    Overhear,
    Send,
    Transcribe,
)
from agent.errors import ProtocolError
from agent.model import output as model
from agent.policy import Policy
from agent.realtime import client_events as protocol, server_events as events
from agent.realtime.codec import samples_of
from agent.realtime.config import AudioFormat, PcmFormat, SessionConfig
from agent.session import Session
from agent.trace import lines as trace
from agent.trace.inputs import (
    Busy,
    DeadlinePassed,
    FromModel,
    Input,
    Judged,
    Overheard,
    Returned,
    Transcribed,
)
from agent.trace.lines import Line, Source


class Setup(Struct, frozen=True):
    """What a session is made with."""

    config: SessionConfig
    timing: Policy
    expires_at: float | None = None
    """On the clock of the trace."""
    voices: dict[str, int] = {}
    """How long the samples of the voices are, by name, in samples at 24 kHz."""

    def session(
        self, new_id: Callable[[str], str], voices: Mapping[str, bytes] | None = None
    ) -> Session:
        """Make the session; voices that aren't given are silent ones of the same length."""
        if voices is None:
            voices = {name: bytes(count * SAMPLE_BYTES) for name, count in self.voices.items()}
        ends = math.inf if self.expires_at is None else self.expires_at
        return Session(self.config, self.timing, new_id, ends, voices)


class Recorder:
    """Writes down one session.

    Args:
        note: Takes the lines; without it nothing is recorded.
        new_id: Draws the session's ids.
    """

    def __init__(self, note: Callable[[Line], None] | None, new_id: Callable[[str], str]):
        self._note = note
        self._draw = new_id
        self._now = 0.0
        self._microphone = 0
        self._listens: AudioFormat = PcmFormat()
        self._speaks: AudioFormat = PcmFormat()

    def began(self, setup: Setup, now: float) -> None:
        """Note what the session is about to be made with."""
        self._now = now
        self._write("session", setup)

    def ended(self, now: float) -> None:
        """Note that this is all; a trace without it was cut off."""
        self._now = now
        self._write("session", ENDED)

    def new_id(self, kind: str) -> str:
        """Draw an id; the session is to be made with this."""
        drawn = self._draw(kind)
        self._write("id", drawn)
        return drawn

    def took(self, taken: Input, now: float) -> None:
        """Note an input, before the session is given it."""
        if self._note is None:
            return
        self._now = now
        if isinstance(taken, protocol.InputAudioAppend):
            self._microphone += samples_of(taken.audio, self._listens)
        self._write(*_written(taken))

    def decided(self, commands: Sequence[Command]) -> None:
        """Note what the session answered to it."""
        if self._note is None:
            return
        for command in commands:
            match command:
                case Send(events.SessionCreated(session=to) | events.SessionUpdated(session=to)):
                    self._listens = to.audio.input.format
                case Send(events.ResponseCreated(response=response)):
                    self._speaks = response.audio.output.format
                case _:
                    pass
            self._write(*self._decision(command))

    def _decision(self, command: Command) -> tuple[Source, object]:
        match command:
            case Send(events.AudioDelta() as event):
                kind, count = event.__struct_config__.tag, samples_of(event.delta, self._speaks)
                return "server", {"type": kind, **structs.asdict(event), "delta": count}
            case Send(event):
                return "server", event
            case AskModel(response_id, messages, modality, max_tokens):
                sizes = [(each.role, each.text, len(each.pcm) // SAMPLE_BYTES) for each in messages]
                ask = {"ask": response_id, "messages": sizes}
                return "request", {**ask, "modality": modality, "max_tokens": max_tokens}
            case AbortModel(response_id):
                return "request", {"abort": response_id}
            case Close(code, reason):
                return "request", {"close": code, "reason": reason}
            case Transcribe(item_id, pcm):
                return "request", {"transcribe": item_id, "samples": len(pcm) // SAMPLE_BYTES}
            case Overhear(item_id, pcm):
                return "request", {"overhear": item_id, "samples": len(pcm) // SAMPLE_BYTES}

    def _write(self, source: Source, what: object) -> None:
        if self._note is not None:
            self._note(trace.line(self._now, self._microphone, source, what))


ENDED = "ended"


class ModelLine(Struct, omit_defaults=True):
    """Output of the model: text, sound, the end of the text, a failure, or its end."""

    response_id: str
    text: str | None = None
    sound: bytes | None = None
    failed: tuple[str, str] | None = None
    text_cut: bool | None = None
    """Whether the text, which is over, was cut short."""
    usage: model.Usage | None = None
    cut_short: bool = False


class Refused(Struct, frozen=True, omit_defaults=True):
    """A message of the client that is no event, and why."""

    message: str
    code: str
    param: str | None = None
    event_id: str | None = None


def _written(taken: Input) -> tuple[Source, object]:
    match taken:
        case Judged(probability):
            return "speech", probability
        case FromModel(response_id, output):
            return "model", _model_line(response_id, output)
        case Transcribed():
            return "transcript", taken
        case Overheard():
            return "overheard", taken
        case DeadlinePassed():
            return "deadline", None
        case Busy(is_busy):
            return "busy", is_busy
        case Returned(position):
            return "resumed", position
        case ProtocolError():
            # It may quote what the client sent, by the megabyte.
            message, param = str(taken)[:LONGEST_COMPLAINT], taken.param
            short = param and param[:LONGEST_COMPLAINT]
            return "refused", Refused(message, taken.code, short, taken.event_id)
        case protocol.BinaryAppend(audio=audio):
            return "sound", audio
        case event:
            return "client", event


def _model_line(response_id: str, output: model.Output) -> ModelLine:
    match output:
        case model.Text(text):
            return ModelLine(response_id, text=text)
        case model.Sound(pcm):
            return ModelLine(response_id, sound=pcm)
        case model.TextEnded(cut_short):
            return ModelLine(response_id, text_cut=cut_short)
        case model.Failed(error):
            return ModelLine(response_id, failed=(str(error), error.code))
        case model.Ended(usage, cut_short):
            return ModelLine(response_id, usage=usage, cut_short=cut_short)
