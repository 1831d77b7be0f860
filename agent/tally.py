"""What early starts were good for, counted over a session."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent.floor import states as floor


@dataclass(slots=True)
class Tally:
    """Replies requested in a pause: those that were said, and those that were dropped unheard."""

    used: int = 0
    wasted: int = 0

    def count(self, before: floor.State, actions: Sequence[floor.Action]) -> None:
        match before:
            case floor.Hesitating(response_id=str(response_id)):
                self.used += floor.OpenResponse(response_id) in actions
                self.wasted += floor.AbortReply(response_id) in actions
            case _:
                pass
