"""Merging: a session's configuration with the part of it that an update names."""

from typing import TypeVar

from msgspec import UNSET, Struct, structs

from agent.errors import ProtocolError
from agent.realtime.config import (
    AudioInputPatch,
    AudioOutputPatch,
    AudioPatch,
    SessionConfig,
    SessionPatch,
)

T = TypeVar("T", bound=Struct)


def merged(config: SessionConfig, patch: SessionPatch) -> SessionConfig:
    """Return the configuration with the named fields replaced.

    Id, type and model of a running session stay as they are, whatever the update calls them:
    every name means the one model. Under `audio.input` and `audio.output` each field is
    replaced whole.
    """
    audio = structs.replace(
        config.audio,
        input=_replaced(config.audio.input, patch.audio.input),
        output=_replaced(config.audio.output, patch.audio.output),
    )
    return structs.replace(_replaced(config, patch), audio=audio, id=config.id, model=config.model)


def _replaced(base: T, patch: AudioInputPatch | AudioOutputPatch | AudioPatch | SessionPatch) -> T:
    named = {field: getattr(patch, field) for field in patch.__struct_fields__}
    changes = {field: value for field, value in named.items() if value is not UNSET}
    return structs.replace(base, **changes)


def check_voice(before: SessionConfig, after: SessionConfig) -> None:
    """Refuse another voice in a conversation that has been spoken in.

    Raises:
        ProtocolError: If it is another one.
    """
    if after.audio.output.voice != before.audio.output.voice:
        message = "Cannot update a conversation's voice if assistant audio is present."
        param = "session.audio.output.voice"
        raise ProtocolError(message, code="cannot_update_voice", param=param)
