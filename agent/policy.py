"""What the operator decides about the course of sessions and of visits, as those need it."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct

from agent.model import tools
from agent.realtime.config import Extensions


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

    def guards(self, asked: Extensions) -> bool:
        """Whether that is done for a client which asked for these."""
        return self.echo_guard and not asked.echo_cancelled


class KioskSettings(Struct, frozen=True):
    """How a kiosk behaves; sent as JSON at `/page/kiosk.json`, so nothing here is secret."""

    greeting: str = "Talk to me"
    starts_on_speech: bool = True
    idle_s: Annotated[float, Meta(ge=1, le=3_600)] = 30.0
    countdown_s: Annotated[float, Meta(ge=1, le=60)] = 10.0
    dead_s: Annotated[float, Meta(ge=1, le=600)] = 10.0
    self_test: bool = True
