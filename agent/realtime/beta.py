"""The beta shape of the Realtime API, which is not spoken: recognised, and what to use instead."""

import msgspec
from msgspec import Raw, Struct

from agent.errors import ProtocolError

CODE = "beta_api_shape_disabled"
CLOSE = 4000
"""WebSocket close code for a client of that shape: it would go on misunderstanding."""

HEADER = "OpenAI-Beta"
WANTED = "realtime=v1"
"""What that header asks for."""
SUBPROTOCOL = "openai-beta.realtime-v1"

RENAMED = {
    "modalities": "output_modalities",
    "voice": "audio.output.voice",
    "speed": "audio.output.speed",
    "input_audio_format": "audio.input.format",
    "input_audio_transcription": "audio.input.transcription",
    "input_audio_noise_reduction": "audio.input.noise_reduction",
    "turn_detection": "audio.input.turn_detection",
    "output_audio_format": "audio.output.format",
    "max_response_output_tokens": "max_output_tokens",
    "temperature": "",
}
"""Fields that stood at the top of a session or a response, and where they are now, if anywhere."""

ASKED = (
    "This client asks for the beta version of the Realtime API ({}), which is not supported. "
    'Leave that out and use the GA shape: session.type is "realtime", session.modalities is '
    "session.output_modalities, and formats, voice and turn detection are below session.audio."
)


class _Event(Struct):
    type: str
    session: dict[str, Raw] = {}


_decoder = msgspec.json.Decoder(_Event)


def hint(path: str) -> str:
    """What to use instead of a field of the beta shape; empty for all others."""
    parent, _, name = path.rpartition(".")
    if parent not in ("session", "response") or name not in RENAMED:
        return ""
    return f"In the GA shape, {_changed(parent, name)}"


def complaint(frame: bytes | str, event_id: str | None) -> ProtocolError | None:
    """Whether an event that can't be read is one of the beta shape: a session without a type."""
    try:
        event = _decoder.decode(frame)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    old = [name for name in RENAMED if name in event.session]
    if event.type == "transcription_session.update":
        what, param = "transcription sessions are not offered", "type"
    elif event.type == "session.update" and "type" not in event.session and old:
        changes = [_changed("session", name) for name in old]
        what, param = f'session.type is "realtime"; {"; ".join(changes)}', f"session.{old[0]}"
    else:
        return None
    message = f"This event has the shape of the beta Realtime API, which is not supported: {what}."
    return ProtocolError(message, code=CODE, param=param, event_id=event_id)


def _changed(parent: str, name: str) -> str:
    new = RENAMED[name]
    return f"{parent}.{name} is now {parent}.{new}" if new else f"{parent}.{name} is gone"
