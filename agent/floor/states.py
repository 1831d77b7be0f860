"""The floor, in words: the states that it can be in, what may happen, and what is done about it.

`turn` says which follows from which.
"""

from dataclasses import dataclass
from typing import Literal

from agent.errors import ModelError
from agent.model.output import Call, Output, Sound, Text

# --- states ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listening:
    """Nobody speaks."""


@dataclass(frozen=True, slots=True)
class UserSpeaking:
    """The user holds the floor."""

    item_id: str


@dataclass(frozen=True, slots=True)
class Hesitating:
    """The user fell silent; a reply may be in the making, unheard."""

    item_id: str
    response_id: str | None
    """The reply that is made in advance, if one is."""
    held: tuple[Output | Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Thinking:
    """The turn is over, and there is no sound yet."""

    response_id: str
    deadline: float
    playout_ends_at: float = 0.0
    """An earlier response may still be playing until then."""
    queued: str | None = None
    """The response that follows this one, for a turn that did not interrupt it."""
    open_item: str | None = None
    """The utterance of a user who goes on speaking meanwhile, without taking the floor."""


@dataclass(frozen=True, slots=True)
class AgentSpeaking:
    """The agent is audible."""

    response_id: str
    deadline: float
    sent_s: float
    playout_ends_at: float
    complete: bool = False
    queued: str | None = None
    open_item: str | None = None


@dataclass(frozen=True, slots=True)
class Overlap:
    """The user made a sound while the agent speaks; it is being judged."""

    agent: "AgentSpeaking | Thinking"
    """The agent's side, which goes on meanwhile."""
    item_id: str
    decide_at: float
    """The microphone decides before this; if it sends nothing any more, the sound was nothing."""
    held_at: float | None = None
    """When the client stopped playing and kept the rest, if it did."""


State = Listening | UserSpeaking | Hesitating | Thinking | AgentSpeaking | Overlap

# --- events ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The user began to speak; `interrupts` says whether that may take the floor from the agent."""

    item_id: str
    interrupts: bool = True


@dataclass(frozen=True, slots=True)
class OverlapSustained:
    """The sound over the agent's voice goes on, and the client can stop and keep the rest."""


@dataclass(frozen=True, slots=True)
class Silence:
    """How long the user has been silent by now, and where in the microphone's sound it began."""

    lasted_s: float
    since_ms: int


@dataclass(frozen=True, slots=True)
class SpeechPaused:
    """The user fell silent for a moment: time to prepare a reply, if it has an id."""

    response_id: str | None
    silence: Silence | None = None


@dataclass(frozen=True, slots=True)
class SpeechResumed:
    """The user goes on after a pause."""


@dataclass(frozen=True, slots=True)
class SpeechDropped:
    """The open utterance was thrown away: the buffer was cleared or turn detection changed."""


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """The user's turn is over, by silence or by the client's commit."""

    item_id: str
    answer: str | None
    """Id for the response that answers it, unless the client asks for one itself."""
    silence: Silence | None = None
    """None if the client ended the turn."""


@dataclass(frozen=True, slots=True)
class OverlapInterrupts:
    """The sound over the agent's voice is the user taking the floor."""

    ended: TurnEnded | None = None
    """The turn that it was, if it is over already."""


@dataclass(frozen=True, slots=True)
class OverlapPassed:
    """The sound over the agent's voice was a backchannel, a noise or somebody else."""

    ended: TurnEnded | None = None
    """The turn that it would have been, if it is over already."""


@dataclass(frozen=True, slots=True)
class ReplyWanted:
    """The client asks for a response to the conversation as it is."""

    response_id: str


@dataclass(frozen=True, slots=True)
class CancelWanted:
    """The client cancels the open response."""


@dataclass(frozen=True, slots=True)
class FromModel:
    """The model server said something for a response."""

    response_id: str
    output: Output | Call


@dataclass(frozen=True, slots=True)
class PlayoutReported:
    """The client says how much of a response's sound it has played."""

    response_id: str
    heard_s: float


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The state's deadline has come."""


Event = (
    SpeechStarted
    | OverlapSustained
    | OverlapInterrupts
    | OverlapPassed
    | SpeechPaused
    | SpeechResumed
    | SpeechDropped
    | TurnEnded
    | ReplyWanted
    | CancelWanted
    | FromModel
    | PlayoutReported
    | DeadlinePassed
)

# --- actions --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestReply:
    """Ask the model; `item_id` is the utterance that isn't part of the conversation yet."""

    response_id: str
    item_id: str | None = None


@dataclass(frozen=True, slots=True)
class AbortReply:
    """Close the request: nothing of it is wanted any more."""

    response_id: str


@dataclass(frozen=True, slots=True)
class CommitItem:
    """The utterance becomes an item of the conversation."""

    item_id: str


@dataclass(frozen=True, slots=True)
class OpenResponse:
    """Tell the client that a response begins."""

    response_id: str


@dataclass(frozen=True, slots=True)
class Deliver:
    """Send text, sound or a function call of the open response to the client."""

    response_id: str
    output: Text | Sound | Call


Reason = Literal["turn_detected", "client_cancelled", "max_output_tokens"]


@dataclass(frozen=True, slots=True)
class CloseResponse:
    """Tell the client that the response is over, and how: complete, cut short or failed."""

    response_id: str
    cause: Reason | ModelError | None = None


@dataclass(frozen=True, slots=True)
class CutItem:
    """The user interrupted: remember only what was heard of the response's item."""

    response_id: str
    heard_s: float


@dataclass(frozen=True, slots=True)
class Duck:
    """Lower the agent's voice, on clients that can."""

    response_id: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Stop playing and keep the rest of what was sent."""

    response_id: str


@dataclass(frozen=True, slots=True)
class Restore:
    """Play on, from the sample where it stopped; what the user said meanwhile is no turn."""

    response_id: str


@dataclass(frozen=True, slots=True)
class AnnounceSpeech:
    """Tell the client that the user began to speak: what had to be judged is judged."""

    item_id: str


@dataclass(frozen=True, slots=True)
class AnnounceEndOfSpeech:
    """Tell the client that the user has finished: the turn was over when it was judged."""

    item_id: str


Action = (
    RequestReply
    | AbortReply
    | CommitItem
    | OpenResponse
    | Deliver
    | CloseResponse
    | CutItem
    | Duck
    | Hold
    | Restore
    | AnnounceSpeech
    | AnnounceEndOfSpeech
)
