"""What a kiosk shows: words of a visit are on the screen only, and gone with the visitor."""

from client.dialogue.jitter import Heard
from client.dialogue.latency import Latency
from client.terminal.lines import Terminal
from client.terminal.view import Speaker, Status

NOBODY = "Is anybody there?"


class KioskView:
    """A `View` without a memory, on a terminal.

    Args:
        words: Show what is said; a log is no place for it.
    """

    def __init__(self, terminal: Terminal, words: bool):
        self._terminal = terminal
        self._words = words
        self._left_s: int | None = None

    def attract(self, greeting: str, hint: str) -> None:
        """Nobody is there."""
        self._terminal.stage("attract", f"{greeting}\n{hint}")

    def visit(self) -> None:
        """Somebody is there."""
        self._left_s = None
        self._terminal.stage("visit", "I listen.")

    def trouble(self, reason: str) -> None:
        self._terminal.stage("trouble", f"Out of service: {reason}")

    def countdown(self, left_s: int | None) -> None:
        """So many seconds are left of this visit; `None` if nothing is counted."""
        before, self._left_s = self._left_s, left_s
        if left_s is not None and left_s != before:
            self._terminal.countdown(NOBODY, left_s)

    def caption(self, who: Speaker, text: str, *, cut: bool = False) -> None:
        if self._words:
            self._terminal.caption(who, text, cut=cut)

    def partial(self, text: str) -> None: ...
    def interrupted(self, heard: Heard) -> None: ...
    def turn(self, number: int, name: str | None, latency: Latency) -> None: ...

    def connection(self, state: str) -> None:
        self._terminal.connection(state)

    def problem(self, text: str) -> None:
        self._terminal.problem(text)

    def note(self, text: str) -> None: ...

    def status(self, status: Status) -> None:
        if self._left_s is None:
            self._terminal.status(status)
