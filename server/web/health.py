"""How the server is, as `/healthz` and `/readyz` say it."""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from server.model.replica import Condition


class Health(Struct, frozen=True):
    """What stands at `/healthz`: nothing in it is secret, and no address."""

    status: Literal["healthy", "degraded", "unavailable"]
    """Whether all replicas of the model server answer, some, or none."""
    sessions: int
    stuck: int
    """Sessions that should have acted a minute ago, and have not."""
    replicas: Sequence[Condition]
    """In the order of the configuration."""
    ending: bool = False
    """Whether it was told to end: sessions that run are finished, and no more begin."""
    service: Literal["mimo-live"] = "mimo-live"
    """By which our own programs recognise this server, on a port that anything may have."""

    @property
    def is_ready(self) -> bool:
        """Whether a call that begins now would be answered, as far as the server knows."""
        return self.status != "unavailable" and not self.ending


def health(
    sessions: int, stuck: int, replicas: Sequence[Condition], *, is_ending: bool = False
) -> Health:
    down = sum(each.state == "down" for each in replicas)
    some = "degraded" if down else "healthy"
    status = "unavailable" if down == len(replicas) else some
    return Health(status, sessions, stuck, replicas, is_ending)
