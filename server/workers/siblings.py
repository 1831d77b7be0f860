"""What a worker has in common with the others."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agent.workers import Place
from server.workers.counts import Counts
from server.workers.relay import Relay
from server.workers.secret_files import SecretFiles


@dataclass(frozen=True, slots=True)
class Siblings:
    """One worker's view of them."""

    place: Place
    relay: Relay
    secrets: SecretFiles
    counts: Counts
    recogniser: Callable[[], Awaitable[str]]
    """Has one running for all workers; returns its URL, or raises a `ModelError`."""
