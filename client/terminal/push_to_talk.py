"""Push-to-talk with a key, in a terminal, which tells presses but never releases.

A key that is held repeats, so it is down until the repeats stop. A key that is tapped opens
the microphone, and the next tap closes it.
"""

REPEAT_S = 0.12
"""Presses closer than this are one key held down."""

RELEASE_S = 0.3
"""A held key that hasn't repeated for so long was let go."""

LEAST_S = 0.256
"""Less is a slip of the finger, as in `server/page/push_to_talk.js`; a short word takes longer."""


class PushToTalk:
    """Tells when to listen, from presses and the time."""

    def __init__(self) -> None:
        self.open = False
        self.slipped = False
        """What was said when the microphone was open last is not worth an answer."""
        self._opened_at = 0.0
        self._held = False
        self._latest: float | None = None
        self._tapped_at: float | None = None

    def press(self, now: float) -> None:
        repeats = self._latest is not None and now - self._latest < REPEAT_S
        self._latest = now
        if not self.open:
            self._opened_at = now
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
        if self._latest is not None and (let_go or tapped):
            self.slipped = self._latest - self._opened_at < LEAST_S
            self.open, self._held, self._tapped_at = False, False, None
