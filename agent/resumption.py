"""Going on with a session over another connection: the token, and how far the client got."""

from collections.abc import Callable
from dataclasses import dataclass

from msgspec import structs

from agent.events import ServerEvent
from agent.objects import Extensions, SessionConfig


class GrantedExtensions(Extensions, frozen=True, kw_only=True):
    """The extensions as the server shows them."""

    resume_token: str
    """Good for one connection, which is told the next."""


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
    """

    def __init__(self, new_id: Callable[[str], str]):
        self._new_id = new_id
        self.token: str | None = None

    def renew(self) -> None:
        """The token was used."""
        self.token = self._new_id("resume")

    def shown(self, config: SessionConfig) -> SessionConfig:
        """The configuration with the token in it, if it asks for one."""
        asked = config.x_mimo
        if not asked or not asked.resume:
            self.token = None
            return config
        self.token = self.token or self._new_id("resume")
        granted = GrantedExtensions(**structs.asdict(asked), resume_token=self.token)
        return structs.replace(config, x_mimo=granted)
