"""The floor: who speaks, and what becomes of the reply, as one pure function.

A reply may be requested while the user only pauses. What it brings is held, unheard, until the
verdict that the turn is over; if the user goes on speaking it is dropped instead.
"""

from dataclasses import dataclass, replace

from agent.audio import seconds
from agent.errors import InvalidTransitionError, ModelError
from agent.floor import (
    AbortReply,
    Action,
    AgentSpeaking,
    CancelWanted,
    CloseResponse,
    CommitItem,
    CutItem,
    DeadlinePassed,
    Deliver,
    Event,
    FromModel,
    Hesitating,
    Listening,
    OpenResponse,
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
from agent.mimo import Ended, Failed, Sound, Text
from agent.tools import Call


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the model may be silent, in seconds."""

    first: float
    """Until the first output of a reply, the wait for other sessions' replies included."""
    between: float
    """Between two outputs."""
    verdict: float = 3.0
    """Until a pause counts as the end of the turn if the microphone sends nothing any more."""


Step = tuple[State, list[Action]]


def deadline(state: State) -> float | None:
    """When the state must be stepped with `DeadlinePassed`; only the user may take for ever."""
    match state:
        case Listening() | UserSpeaking():
            return None
        case Hesitating():
            return state.verdict_at
        case Thinking():
            return state.deadline
        case AgentSpeaking():
            return state.playout_ends_at if state.complete else state.deadline


def open_response(state: State) -> str | None:
    """The response that the client knows of and that isn't over yet."""
    match state:
        case Thinking(response_id):
            return response_id
        case AgentSpeaking(response_id, complete=False):
            return response_id
        case _:
            return None


def playing_until(state: State) -> float:
    """When the listener has heard everything that was sent so far."""
    return state.playout_ends_at if isinstance(state, Thinking | AgentSpeaking) else 0.0


def _is_late(state: State, event: Event) -> bool:
    if not isinstance(event, FromModel):
        return False
    expected = state.response_id if isinstance(state, Hesitating) else open_response(state)
    return event.response_id != expected


def step(state: State, event: Event, now: float, patience: Patience) -> Step:
    """Take one event.

    Raises:
        InvalidTransitionError: If the event can't happen in this state.
    """
    if _is_late(state, event):
        return state, []
    match state:
        case Listening() | UserSpeaking():
            return _while_the_user_may_speak(state, event, now, patience)
        case Hesitating():
            return _while_hesitating(state, event, now, patience)
        case Thinking() | AgentSpeaking():
            return _while_replying(state, event, now, patience)


def _ask(response_id: str, now: float, patience: Patience, playing_until: float = 0.0) -> Step:
    return Thinking(response_id, now + patience.first, playing_until), [
        OpenResponse(response_id),
        RequestReply(response_id),
    ]


def _while_the_user_may_speak(
    state: Listening | UserSpeaking, event: Event, now: float, patience: Patience
) -> Step:
    match state, event:
        case Listening(), SpeechStarted(item_id):
            return UserSpeaking(item_id), []
        case Listening(), SpeechResumed() | SpeechDropped() | DeadlinePassed():
            return state, []
        case UserSpeaking(item_id), SpeechPaused(response_id):
            return Hesitating(item_id, response_id, now + patience.verdict), [
                RequestReply(response_id, item_id)
            ]
        case UserSpeaking(), SpeechDropped():
            return Listening(), []
        case UserSpeaking(), SpeechResumed() | DeadlinePassed():
            return state, []
        case _, TurnEnded(item_id, None):
            return Listening(), [CommitItem(item_id)]
        case _, TurnEnded(item_id, str(answer)):
            thinking, actions = _ask(answer, now, patience)
            return thinking, [CommitItem(item_id), *actions]
        case _, ReplyWanted(response_id):
            return _ask(response_id, now, patience)
        case _:
            raise InvalidTransitionError(f"{event} in {state}")


def _while_hesitating(state: Hesitating, event: Event, now: float, patience: Patience) -> Step:
    abort = AbortReply(state.response_id)
    match event:
        case FromModel(output=Failed()):
            # Nobody has noticed: the verdict asks once more.
            return UserSpeaking(state.item_id), []
        case FromModel(output=output):
            return replace(state, held=(*state.held, output)), []
        case SpeechResumed():
            return UserSpeaking(state.item_id), [abort]
        case SpeechDropped():
            return Listening(), [abort]
        case TurnEnded(item_id, None):
            return Listening(), [abort, CommitItem(item_id)]
        case TurnEnded() | DeadlinePassed():
            return _release(state, now, patience)
        case ReplyWanted(response_id):
            thinking, actions = _ask(response_id, now, patience)
            return thinking, [abort, *actions]
        case SpeechStarted() | SpeechPaused() | CancelWanted():
            raise InvalidTransitionError(f"{event} in {state}")


def _release(state: Hesitating, now: float, patience: Patience) -> Step:
    """The turn is over: what was held is said as if it came now."""
    floor: State = Thinking(state.response_id, now + patience.first)
    actions: list[Action] = [CommitItem(state.item_id), OpenResponse(state.response_id)]
    for output in state.held:
        floor, more = step(floor, FromModel(state.response_id, output), now, patience)
        actions += more
    return floor, actions


def _while_replying(
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
        case SpeechStarted(item_id, interrupts=True):
            return UserSpeaking(item_id), _interrupt(state, now)
        case TurnEnded(item_id, answer):
            return _queue(state, item_id, answer, now, patience)
        case ReplyWanted(response_id) if open_response(state) is None:
            return _ask(response_id, now, patience, state.playout_ends_at)
        case CancelWanted() if open_response(state):
            floor, actions = _close(state, "client_cancelled", now, patience)
            return floor, [AbortReply(state.response_id), *actions]
        case DeadlinePassed():
            return _give_up(state, now, patience)
        case SpeechStarted() | SpeechPaused() | SpeechResumed() | SpeechDropped():
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
            ), deliver


def _close(
    state: Thinking | AgentSpeaking,
    cause: Reason | ModelError | None,
    now: float,
    patience: Patience,
) -> Step:
    """The response is over; what was sent of it may go on playing."""
    close = CloseResponse(state.response_id, cause)
    if state.queued is not None:
        thinking, actions = _ask(state.queued, now, patience, state.playout_ends_at)
        return thinking, [close, *actions]
    if isinstance(state, AgentSpeaking):
        return replace(state, complete=True), [close]
    return Listening(), [close]


def _interrupt(state: Thinking | AgentSpeaking, now: float) -> list[Action]:
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
    if answer is None:
        return state, [commit]
    if open_response(state):
        return replace(state, queued=state.queued or answer), [commit]
    thinking, actions = _ask(answer, now, patience, state.playout_ends_at)
    return thinking, [commit, *actions]


def _give_up(state: Thinking | AgentSpeaking, now: float, patience: Patience) -> Step:
    if not open_response(state):
        return Listening(), []
    error = ModelError("the model server said nothing for too long", code="model_timeout")
    floor, actions = _close(state, error, now, patience)
    return floor, [AbortReply(state.response_id), *actions]
