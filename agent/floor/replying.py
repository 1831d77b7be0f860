"""The agent's side of the floor: a response from its request to the end of its sound."""

from dataclasses import dataclass, replace

from agent.audio import seconds
from agent.errors import InvalidTransitionError, ModelError
from agent.floor.states import (
    AbortReply,
    Action,
    AgentSpeaking,
    CancelWanted,
    CloseResponse,
    CommitItem,
    CutItem,
    DeadlinePassed,
    Deliver,
    Duck,
    Event,
    FromModel,
    Listening,
    OpenResponse,
    Overlap,
    PlayoutReported,
    Reason,
    ReplyWanted,
    RequestReply,
    SpeechDropped,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    State,
    Thinking,
    TurnEnded,
    UserSpeaking,
)
from agent.model.mimo import Ended, Failed, Sound, Text
from agent.model.tools import Call


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the model may be silent, in seconds."""

    first: float
    """Until the first output of a reply, the wait for other sessions' replies included."""
    between: float
    """Between two outputs."""
    verdict: float = 3.0
    """Until the user's turn is over if the microphone sends nothing any more: a network may stall
    for a second or two in the middle of a word."""
    overlap: float = 1.5
    """Until a sound over the agent's voice counts as nothing, in the same case."""


Step = tuple[State, list[Action]]


def open_response(state: State) -> str | None:
    """The response that the client knows of and that isn't over yet."""
    match state:
        case Thinking(response_id):
            return response_id
        case AgentSpeaking(response_id, complete=False):
            return response_id
        case Overlap(agent):
            return open_response(agent)
        case _:
            return None


def ask(
    response_id: str,
    now: float,
    patience: Patience,
    playing_until: float = 0.0,
    open_item: str | None = None,
) -> Step:
    thinking = Thinking(response_id, now + patience.first, playing_until, open_item=open_item)
    return thinking, [OpenResponse(response_id), RequestReply(response_id)]


def while_replying(
    state: Thinking | AgentSpeaking, event: Event, now: float, patience: Patience
) -> Step:
    match event:
        case FromModel(output=Text() | Sound() | Call() as output):
            return _deliver(state, output, now, patience)
        case FromModel(output=Ended() as ended):
            cause = "max_output_tokens" if ended.cut_short else None
            return _close(state, cause, now, patience)
        case FromModel(output=Failed(error)):
            return _close(state, error, now, patience)
        case PlayoutReported(heard_s=heard_s) if isinstance(state, AgentSpeaking):
            return _correct(state, heard_s, now), []
        case SpeechStarted(item_id, interrupts=True) if isinstance(state, AgentSpeaking):
            return Overlap(state, item_id, now + patience.overlap), [Duck(state.response_id)]
        case SpeechStarted(item_id, interrupts=True):
            return UserSpeaking(item_id), interrupt(state, now)
        case TurnEnded(item_id, answer):
            return _queue(state, item_id, answer, now, patience)
        case ReplyWanted(response_id) if open_response(state) is None:
            return ask(response_id, now, patience, state.playout_ends_at, state.open_item)
        case CancelWanted() if open_response(state):
            floor, actions = _close(state, "client_cancelled", now, patience)
            return floor, [AbortReply(state.response_id), *actions]
        case DeadlinePassed():
            return _give_up(state, now, patience)
        case SpeechStarted(item_id):
            return replace(state, open_item=item_id), []
        case SpeechDropped():
            return replace(state, open_item=None), []
        case SpeechPaused() | SpeechResumed():
            return state, []
        case _:
            raise InvalidTransitionError(f"{event} in {state}")


def _deliver(
    state: Thinking | AgentSpeaking, output: Text | Sound | Call, now: float, patience: Patience
) -> Step:
    deliver: list[Action] = [Deliver(state.response_id, output)]
    stalls_at = now + patience.between
    match output:
        case Text() | Call():
            return replace(state, deadline=stalls_at), deliver
        case Sound(pcm):
            sent_s = state.sent_s if isinstance(state, AgentSpeaking) else 0.0
            return AgentSpeaking(
                state.response_id,
                deadline=stalls_at,
                sent_s=sent_s + seconds(pcm),
                playout_ends_at=max(now, state.playout_ends_at) + seconds(pcm),
                queued=state.queued,
                open_item=state.open_item,
            ), deliver


def _correct(state: AgentSpeaking, heard_s: float, now: float) -> AgentSpeaking:
    """What is not played yet ends that much later."""
    left_s = max(0.0, state.sent_s - max(0.0, heard_s))
    return replace(state, playout_ends_at=now + left_s)


def _close(
    state: Thinking | AgentSpeaking,
    cause: Reason | ModelError | None,
    now: float,
    patience: Patience,
) -> Step:
    """The response is over; what was sent of it may go on playing."""
    close = CloseResponse(state.response_id, cause)
    if state.queued is not None:
        until, goes_on = state.playout_ends_at, state.open_item
        thinking, actions = ask(state.queued, now, patience, until, goes_on)
        return thinking, [close, *actions]
    if isinstance(state, AgentSpeaking):
        return replace(state, complete=True), [close]
    return _yield_floor(state), [close]


def _yield_floor(state: Thinking | AgentSpeaking) -> Listening | UserSpeaking:
    """The agent has finished: a user who speaks meanwhile has the floor now."""
    return UserSpeaking(state.open_item) if state.open_item else Listening()


def interrupt(state: Thinking | AgentSpeaking, now: float) -> list[Action]:
    actions: list[Action] = []
    if open_response(state):
        actions += [
            AbortReply(state.response_id),
            CloseResponse(state.response_id, "turn_detected"),
        ]
    if isinstance(state, AgentSpeaking):
        actions.append(CutItem(state.response_id, state.heard_s(now)))
    return actions


def _queue(
    state: Thinking | AgentSpeaking,
    item_id: str,
    answer: str | None,
    now: float,
    patience: Patience,
) -> Step:
    """A turn ended without taking the floor: it is answered when the open response is over."""
    commit = CommitItem(item_id)
    state = replace(state, open_item=None)
    if answer is None:
        return state, [commit]
    if open_response(state):
        return replace(state, queued=state.queued or answer), [commit]
    thinking, actions = ask(answer, now, patience, state.playout_ends_at)
    return thinking, [commit, *actions]


def _give_up(state: Thinking | AgentSpeaking, now: float, patience: Patience) -> Step:
    if not open_response(state):
        return _yield_floor(state), []
    error = ModelError("the model server was silent for too long", code="model_timeout")
    floor, actions = _close(state, error, now, patience)
    return floor, [AbortReply(state.response_id), *actions]
