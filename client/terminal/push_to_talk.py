"""Push-to-talk with a key, in a terminal, which tells presses but never releases.

A key that is held repeats, so it is down until the repeats stop. A key that is tapped opens
the microphone, and the next tap closes it.
"""

REPEAT_S = 0.12
"""Presses closer than this are one key held down."""

RELEASE_S = 0.3
"""A held key that hasn't repeated for so long was let go."""


class PushToTalk:
    """Tells when to listen, from presses and the time."""

    def __init__(self) -> None:
        self.open = False
        self._held = False
        self._latest: float | None = None
        self._tapped_at: float | None = None

    def press(self, now: float) -> None:
        repeats = self._latest is not None and now - self._latest < REPEAT_S
        self._latest = now
        if not self.open:
            self.open, self._held, self._tapped_at = True, False, None
        elif repeats:
            # What looked like a tap to close was the first repeat, which comes after a pause.
            self._held, self._tapped_at = True, None
        elif not self._held:
            self._tapped_at = now

    def tick(self, now: float) -> None:
        """Let time pass."""
        let_go = self._held and self._latest is not None and now - self._latest > RELEASE_S
        tapped = self._tapped_at is not None and now - self._tapped_at > REPEAT_S
        if let_go or tapped:
            self.open, self._held, self._tapped_at = False, False, None
