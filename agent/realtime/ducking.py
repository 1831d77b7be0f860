"""Our extension for clients that can lower their volume, hold what they play, and go on from there.

A client that asked for it hears of a sound over the agent's voice at once, before it is known to
be an interruption. One that is, is told as in the protocol: `input_audio_buffer.speech_started`.
"""

from agent.floor import states as floor
from agent.realtime.server_events import ServerEvent


class Ducked(ServerEvent, frozen=True, tag="x_mimo.duck"):
    """Somebody makes a sound: lower the volume of this response."""

    response_id: str


class Held(ServerEvent, frozen=True, tag="x_mimo.hold"):
    """The sound goes on: stop playing, and keep what is left."""

    response_id: str


class Restored(ServerEvent, frozen=True, tag="x_mimo.restore"):
    """It was nothing: play on at full volume, from the sample where it stopped."""

    response_id: str


def told(action: floor.Duck | floor.Hold | floor.Restore) -> ServerEvent:
    """What the client is told of an action."""
    match action:
        case floor.Duck(response_id):
            return Ducked(response_id=response_id)
        case floor.Hold(response_id):
            return Held(response_id=response_id)
        case floor.Restore(response_id):
            return Restored(response_id=response_id)
