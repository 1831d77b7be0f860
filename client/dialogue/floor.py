"""Who speaks and what is owed, as a client follows it by the server's events."""

from dataclasses import dataclass, field

from client.dialogue.latency import Turn

CAPTION_S = 2.0
"""A transcript that is later than this isn't waited for: a server may not write any."""


@dataclass
class Floor:
    """Changes with every event; times are those of the caller's clock, in seconds."""

    user_speaks: bool = False
    answer_due: bool = False
    turn: Turn | None = None
    cancelled: set[str] = field(default_factory=set[str])
    """Responses and items of which nothing more is to be played."""
    uncaptioned: set[str] = field(default_factory=set[str])
    """What the user said and no caption came for yet."""
    failure: str | None = None
    """The server's latest complaint."""
    changed_at: float = 0.0

    def expect_answer(self, now: float) -> None:
        """The user wrote: an answer is due from now on."""
        self.answer_due, self.changed_at = True, now
        self.turn = Turn(now, now)

    def is_settled(self, now: float) -> bool:
        """Nobody speaks and nothing is owed; a late caption is waited for, but not forever."""
        captioned = not self.uncaptioned or now > self.changed_at + CAPTION_S
        return captioned and not self.answer_due and not self.user_speaks

    def missing(self, timeout_s: float) -> str:
        """Say what has not come, when it was waited for in vain."""
        if self.turn is None:
            what = "the end of the speech was not" if self.user_speaks else "no speech was"
            what = f"{what} noticed by the server"
        else:
            what = "the answer did not end" if self.turn.heard_at else "no sound came"
        return f"{what} within {timeout_s:g} s" + (f" ({self.failure})" if self.failure else "")
