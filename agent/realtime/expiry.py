"""The end of a session's longest time, in words."""

from agent.commands import Close, Command, refuse
from agent.errors import ModelError, ProtocolError
from agent.model.mimo import Failed

EXPIRED = "Your session hit the maximum duration of 60 minutes."
CODE = "session_expired"

CUT_OFF = Failed(ModelError(EXPIRED, code=CODE))
"""What becomes of a response that is open then."""


def goodbye() -> list[Command]:
    """The last that a client hears."""
    return [refuse(ProtocolError(EXPIRED, code=CODE)), Close(1001, EXPIRED)]
