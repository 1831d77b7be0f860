"""Going on with a session over another connection: the token, and how far the client got."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec import UNSET, UnsetType, structs

from agent.realtime.config import Extensions, SessionConfig
from agent.realtime.server_events import ServerEvent


class GrantedExtensions(Extensions, frozen=True, kw_only=True):
    """The extensions as the server shows them."""

    resume_token: str | UnsetType = UNSET
    """Good for one connection, which is sent the next."""
    answered_by: str | UnsetType = UNSET
    """The model that answers, whatever name the client asked for."""
    voices: Sequence[str]
    """The names of voices that mean one; all others mean `"default"`."""


class Resumed(ServerEvent, frozen=True, tag="x_mimo.resumed"):
    """The next sound is of that item, and begins at that sample of it, counted at 24 kHz."""

    item_id: str
    audio_start_samples: int


@dataclass(frozen=True, slots=True)
class Position:
    """How far a client that comes back had got, as far as it knows."""

    after: int | None = None
    """The number of the last event that it received."""
    item_id: str = ""
    received_samples: int = 0
    """How much of that item's sound it received, counted at 24 kHz."""


class Resumption:
    """The token of one session, which only a client that asked for it has.

    Args:
        new_id: Must give what nobody can guess for the kind `resume`.
        answered_by: The model's name, shown beside the token.
        voices: The names of the voices that there are, shown there too.
    """

    def __init__(self, new_id: Callable[[str], str], answered_by: str, voices: Sequence[str]):
        self._new_id = new_id
        self._answered_by = answered_by
        self._voices = voices
        self.token: str | None = None

    def renew(self) -> None:
        """The token was used."""
        self.token = self._new_id("resume")

    def shown(self, config: SessionConfig) -> SessionConfig:
        """The configuration with what only the server knows, if it asks for extensions."""
        asked = config.x_mimo
        wants_token = bool(asked and asked.resume)
        self.token = (self.token or self._new_id("resume")) if wants_token else None
        if not asked:
            return config
        granted = GrantedExtensions(
            **structs.asdict(asked),
            resume_token=self.token or UNSET,
            answered_by=self._answered_by or UNSET,
            voices=self._voices,
        )
        return structs.replace(config, x_mimo=granted)
