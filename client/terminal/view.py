"""What a conversation shows: the words between the call and whatever a person looks at."""

from dataclasses import dataclass
from typing import Literal, Protocol
from unicodedata import east_asian_width

from client.dialogue.jitter import Heard
from client.dialogue.latency import Latency

SHOWN_EVERY_S = 0.15
"""Between two looks at how things are: often enough for a meter, seldom enough for a processor."""


Speaker = Literal["user", "agent"]
State = Literal["listening", "thinking", "speaking", "overlap"]

STATE_WORDS: dict[State, str] = {
    "listening": "Listening…",
    "thinking": "Thinking…",
    "speaking": "Speak to interrupt",
    "overlap": "Both speaking",
}


@dataclass(frozen=True, slots=True)
class Status:
    """How things are now; levels are root mean squares from 0.0 to 1.0."""

    state: State
    microphone: float
    loudspeaker: float
    saying: str = ""
    """What was heard so far of what the agent says."""
    muted: bool = False
    push: Literal["off", "closed", "open"] = "off"
    """Push-to-talk, and whether the microphone is open in it."""


class View(Protocol):
    """Shows a conversation; never blocks, never fails."""

    def caption(self, who: Speaker, text: str, *, cut: bool = False) -> None:
        """One side said this; the agent, what was heard of it where it was cut short."""
        ...

    def partial(self, text: str) -> None:
        """The next words of what the user is saying; a caption comes when all is said."""
        ...

    def interrupted(self, heard: Heard) -> None: ...

    def turn(self, number: int, name: str | None, latency: Latency) -> None:
        """An answer was heard; `name` is the file that asked, if one did."""
        ...

    def connection(self, state: str) -> None:
        """The connection is now so, in a few words; `""` if all is well."""
        ...

    def problem(self, text: str) -> None: ...

    def note(self, text: str) -> None: ...

    def status(self, status: Status) -> None: ...


def cells(text: str) -> int:
    """How many columns a terminal needs for a line, or a little more."""
    return sum(2 if east_asian_width(each) in "FW" else 1 for each in text)
