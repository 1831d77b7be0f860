"""The wire as a client with ears and a mouth sees it: the events it uses, and their decoder.

The OpenAI Realtime protocol (GA) and the `x_mimo` events that go beyond it. All other events,
known or not, are passed over.
"""

from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec
from msgspec import Struct, field

from agent.errors import ProtocolError


class Extensions(Struct, frozen=True):
    """What the server agreed to of the things beyond the protocol that were asked for."""

    playout: bool = False
    """Wants to know how much was heard."""
    duck: bool = False
    """Asks to lower the volume, to hold and to go on, instead of stopping at every sound."""
    answered_by: str | None = None
    """The model that answers, where the server knows it."""
    voices: list[str] = []
    """The voices by name, where the server tells."""
    resume_token: str | None = None
    """Continues this session over another connection; each is good for one use."""


class InputConfig(Struct, frozen=True):
    turn_detection: dict[str, object] | None = None


class AudioConfig(Struct, frozen=True):
    input: InputConfig = InputConfig()


class SessionConfig(Struct, frozen=True):
    id: str = ""
    audio: AudioConfig = AudioConfig()
    x_mimo: Extensions | None = None


class _Event(Struct, kw_only=True):
    event_id: str = ""


class SessionCreated(_Event, tag="session.created"):
    session: SessionConfig


class SessionUpdated(_Event, tag="session.updated"):
    session: SessionConfig


class SpeechStarted(_Event, tag="input_audio_buffer.speech_started"):
    pass


class SpeechStopped(_Event, tag="input_audio_buffer.speech_stopped"):
    pass


class Committed(_Event, tag="input_audio_buffer.committed"):
    item_id: str


class UserTranscriptDelta(_Event, tag="conversation.item.input_audio_transcription.delta"):
    item_id: str
    delta: str = ""


class UserTranscript(_Event, tag="conversation.item.input_audio_transcription.completed"):
    item_id: str
    transcript: str


class NotUnderstood(_Event, tag="conversation.item.input_audio_transcription.failed"):
    item_id: str


class AudioDelta(_Event, tag="response.output_audio.delta"):
    response_id: str
    item_id: str
    delta: bytes


class AudioDone(_Event, tag="response.output_audio.done"):
    item_id: str


class TranscriptDelta(_Event, tag="response.output_audio_transcript.delta"):
    item_id: str
    delta: str


class TranscriptDone(_Event, tag="response.output_audio_transcript.done"):
    item_id: str
    transcript: str


class Duck(_Event, tag="x_mimo.duck"):
    pass


class Hold(_Event, tag="x_mimo.hold"):
    pass


class Restore(_Event, tag="x_mimo.restore"):
    pass


class Resumed(_Event, tag="x_mimo.resumed"):
    """The item's next sound begins at that sample, which may have been received before."""

    item_id: str
    audio_start_samples: int


class Marks(_Event, tag="x_mimo.marks"):
    requested_ms: int
    first_sound_ms: int | None = None
    speech_end_ms: int | None = None
    """Where the user stopped speaking, in the sound that was sent."""


class Problem(Struct):
    message: str = "no reason given"
    code: str | None = None
    param: str | None = None


TOO_LATE = ("response_cancel_not_active", "item_truncate_invalid_item_id")
"""Codes of problems of an answer that ended, or whose session did, before it was to be ended."""


class StatusDetails(Struct):
    error: Problem = field(default_factory=Problem)


class Response(Struct):
    id: str
    status: str
    status_details: StatusDetails | None = None

    @property
    def failure(self) -> str:
        """Why it failed, in the server's words."""
        return (self.status_details or StatusDetails()).error.message


class ResponseDone(_Event, tag="response.done"):
    response: Response


class ErrorEvent(_Event, tag="error"):
    error: Problem = field(default_factory=Problem)


ServerEvent = (
    SessionCreated
    | SessionUpdated
    | SpeechStarted
    | SpeechStopped
    | Committed
    | UserTranscriptDelta
    | UserTranscript
    | NotUnderstood
    | AudioDelta
    | AudioDone
    | TranscriptDelta
    | TranscriptDone
    | Duck
    | Hold
    | Restore
    | Resumed
    | Marks
    | ResponseDone
    | ErrorEvent
)

Extension = Literal["playout", "duck", "resume", "marks", "echo_cancelled"]
EXTENSIONS: tuple[Extension, ...] = ("playout", "duck", "resume", "marks")
"""What a client with a loudspeaker asks for, whatever its microphone hears."""

_KNOWN = frozenset(str(kind.__struct_config__.tag) for kind in ServerEvent.__args__)
_decoder = msgspec.json.Decoder(ServerEvent)


class _Envelope(Struct):
    type: str


def decode(frame: str | bytes) -> ServerEvent | None:
    """Decode one event; `None` for a kind that this client has no use for.

    Raises:
        ProtocolError: If it is no event, or lacks what its kind must have.
    """
    try:
        kind = msgspec.json.decode(frame, type=_Envelope).type
        return _decoder.decode(frame) if kind in _KNOWN else None
    except msgspec.DecodeError as error:
        raise ProtocolError(
            f"an event that can't be read: {error}", code="invalid_event"
        ) from error


_SOCKET_SCHEMES = {"http": "ws", "https": "wss"}


def full_url(url: str, **query: str | int) -> str:
    """Complete `ws://host:port`, or the address of a page, to that of conversations."""
    parts = urlsplit(url)
    scheme = _SOCKET_SCHEMES.get(parts.scheme, parts.scheme)
    whole = scheme == parts.scheme and parts.path not in ("", "/")
    path = parts.path if whole else f"{_folder(parts.path)}/v1/realtime"
    words = urlencode([*parse_qsl(parts.query), *query.items()])
    return urlunsplit(parts._replace(scheme=scheme, path=path, query=words))


def page_url(url: str) -> str:
    """Where the pages of that conversation server are."""
    where = urlsplit(url)
    scheme = "https" if where.scheme in ("wss", "https") else "http"
    return f"{scheme}://{where.netloc}{_folder(where.path)}/"


def _folder(path: str) -> str:
    return path.removesuffix("/realtime").removesuffix("/v1").rstrip("/")
