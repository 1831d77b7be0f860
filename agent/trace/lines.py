"""A trace: what happened in a session, line by line, on one axis of time.

One JSON object a line. The server writes what a session took in and decided; the simulated
caller writes what it said and heard. Both put the microphone's sample next to the clock, so
two traces of one conversation can be laid side by side.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec
from msgspec import Raw, Struct

from agent.errors import AgentError

Source = Literal[
    "session", "client", "sound", "refused", "server", "speech", "model", "deadline",
    "transcript", "overheard", "busy", "resumed", "id", "request", "caller",
]  # fmt: skip
"""Who a line is from: what a session was made with, or its end; an event of the client or the
server as on the wire; a binary frame; a message that was none; the probability of speech in a
frame; output of the model; a deadline that passed; a transcript; words over the
agent's voice; whether others wait for the model
server; how far a client had got that came back; an id that was drawn; a request of the session; or
what the simulated caller did."""


class TraceError(AgentError):
    """A trace that can't be read, or that doesn't fit what is replayed."""


class Line(Struct, frozen=True, rename={"source": "from"}):
    """One thing that happened."""

    at_s: float
    """On a clock that only has to be the same for the whole trace."""
    microphone: int
    """Samples of the microphone at 24 kHz that had been sent, or received, by then."""
    source: Source
    what: Raw = Raw(b"null")
    """The event, number or name, as JSON."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Line)


def line(at_s: float, microphone: int, source: Source, what: object = None) -> Line:
    """Make a line of anything that can be written as JSON; bytes become base64."""
    return Line(at_s, microphone, source, Raw(_encoder.encode(what)))


def encode(entry: Line) -> bytes:
    """Write one line, its end included."""
    return _encoder.encode(entry) + b"\n"


def decode(lines: Iterable[bytes | str]) -> Iterator[Line]:
    """Read lines; empty ones are passed over.

    Raises:
        TraceError: If one is no line of a trace; it names the line's number.
    """
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            yield _decoder.decode(text)
        except msgspec.DecodeError as error:
            raise TraceError(f"line {number} of the trace: {error}") from error
