"""What SIGINT and SIGTERM ask of a server: to come to an end, and, once more, to end at once."""

import asyncio
import signal
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked so far."""

    to_end: asyncio.Event = field(default_factory=asyncio.Event)
    at_once: asyncio.Event = field(default_factory=asyncio.Event)

    def more(self) -> None:
        """Take a signal."""
        (self.at_once if self.to_end.is_set() else self.to_end).set()


def asked_by_signals() -> Asked:
    """Listen to the signals of this process from now on."""
    asked = Asked()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asked.more)
    return asked
