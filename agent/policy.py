"""What the operator decides about the course of a session, as the session needs it."""

from dataclasses import dataclass

from agent.model import tools


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the model may be silent, in seconds."""

    first: float
    """Until the first output of a reply, the wait for other sessions' replies included."""
    between: float
    """Between two outputs."""
    verdict: float = 3.0
    """Until the user's turn is over if the microphone sends nothing any more: a network may stall
    for a second or two in the middle of a word."""
    overlap: float = 1.5
    """Until a sound over the agent's voice counts as nothing, in the same case."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Set once, for all sessions."""

    patience: Patience
    early_start_ms: int
    """Silence after which a reply is prepared, unheard; 0 never."""
    longest_turn_ms: int
    tool_style: tools.Style = "request"
    echo_guard: bool = True
    """Whether the agent's own voice in the microphone is told from the user's."""
    answered_by: str = ""
    """The model that answers, by the name that its server gives it; empty if nobody knows."""
