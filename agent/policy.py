"""What the operator decides about the course of a session, as the session needs it."""

from dataclasses import dataclass

from agent.floor import step as turn
from agent.model import tools


@dataclass(frozen=True, slots=True)
class Timing:
    """Set once, for all sessions."""

    patience: turn.Patience
    early_start_ms: int
    """Silence after which a reply is prepared, unheard; 0 never."""
    longest_turn_ms: int
    tool_style: tools.Style = "request"
    echo_guard: bool = True
    """Whether the agent's own voice in the microphone is told from the user's."""
    answered_by: str = ""
    """The model that answers, by the name that its server gives it; empty if nobody knows."""
