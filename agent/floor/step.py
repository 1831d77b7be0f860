"""The floor: who speaks, and what becomes of the reply, as one pure function.

    Listening      speech: UserSpeaking · asked to speak: Thinking
    UserSpeaking   a pause: Hesitating · the turn is over: Thinking
    Hesitating     goes on: UserSpeaking · the turn is over: Thinking, and what was held is said
    Thinking       sound: AgentSpeaking · speech: UserSpeaking · over without sound: Listening
    AgentSpeaking  speech: Overlap · played to its end: Listening
    Overlap        it interrupts: UserSpeaking · it passes: AgentSpeaking

A reply may be requested while the user only pauses. What it brings is held, unheard, until the
turn is over; if the user goes on speaking it is dropped instead. A sound over the agent's voice
takes the floor only once it is judged, and until then the agent's side goes on beside it.

The agent has a deadline in every state in which it is owed something, and the user's turn has one
as soon as frames stop coming: nobody waits for ever. Speech that does not take the floor, because
it may not interrupt, is kept as `open_item` beside the agent's state.
"""

from collections.abc import Sequence
from dataclasses import replace

from agent.audio import seconds
from agent.errors import InvalidTransitionError, ModelError
from agent.floor.states import (
    AbortReply,
    Action,
    AgentSpeaking,
    AnnounceEndOfSpeech,
    AnnounceSpeech,
    CancelWanted,
    CloseResponse,
    CommitItem,
    CutItem,
    DeadlinePassed,
    Deliver,
    Duck,
    Event,
    FromModel,
    Hesitating,
    Hold,
    Listening,
    OpenResponse,
    Overlap,
    OverlapInterrupts,
    OverlapPassed,
    OverlapSustained,
    PlayoutReported,
    Reason,
    ReplyWanted,
    RequestReply,
    Restore,
    SpeechDropped,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    State,
    Thinking,
    TurnEnded,
    UserSpeaking,
)
from agent.model.output import Call, Ended, Failed, Output, Sound, Text
from agent.policy import Patience

Step = tuple[State, list[Action]]

EARLY_ANSWER_S = 0.6
"""A short sound this close to the end of the agent's voice answers it."""


def deadline(state: State, frames_due: float) -> float | None:
    """When the state must be left, should nothing happen before; only silence may last for ever.

    Args:
        frames_due: When a microphone that sends nothing more is given up: a user's turn ends then.
    """
    match state:
        case Listening():
            return None
        case UserSpeaking() | Hesitating():
            return frames_due
        case Thinking() | AgentSpeaking():
            return _agents_deadline(state)
        case Overlap(held_at=None):
            return min(_agents_deadline(state.agent), state.decide_at)
        case Overlap():
            # While the client holds its sound, playout can't end.
            return state.decide_at


def open_item(state: State) -> str | None:
    """The utterance that goes on, pauses included; none that is still being judged."""
    match state:
        case UserSpeaking(item_id) | Hesitating(item_id):
            return item_id
        case Thinking() | AgentSpeaking():
            return state.open_item
        case Listening() | Overlap():
            return None


def _playing(state: State) -> str | None:
    """The response that is audible."""
    match state:
        case AgentSpeaking(response_id) | Overlap(AgentSpeaking(response_id)):
            return response_id
        case _:
            return None


def playing_until(state: State) -> float:
    """When the listener has heard everything that was sent so far."""
    agent = state.agent if isinstance(state, Overlap) else state
    return agent.playout_ends_at if isinstance(agent, Thinking | AgentSpeaking) else 0.0


def _is_late(state: State, event: Event) -> bool:
    if isinstance(event, PlayoutReported):
        return event.response_id != _playing(state)
    if not isinstance(event, FromModel):
        return False
    return event.response_id != (early_reply(state) or open_response(state))


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
        case Overlap():
            return _while_overlapping(state, event, now, patience)


def _while_the_user_may_speak(
    state: Listening | UserSpeaking, event: Event, now: float, patience: Patience
) -> Step:
    match state, event:
        case Listening(), SpeechStarted(item_id):
            return UserSpeaking(item_id), []
        case Listening(), SpeechDropped() | DeadlinePassed():
            return state, []
        case UserSpeaking(item_id), SpeechPaused(response_id):
            early = [RequestReply(response_id, item_id)] if response_id else []
            return Hesitating(item_id, response_id), [*early]
        case UserSpeaking(), SpeechDropped():
            return Listening(), []
        case UserSpeaking(), SpeechResumed():
            return state, []
        case _, TurnEnded(item_id, None):
            return Listening(), [CommitItem(item_id)]
        case _, TurnEnded(item_id, str(answer)):
            thinking, actions = _ask(answer, now, patience)
            return thinking, [CommitItem(item_id), *actions]
        case _, ReplyWanted(response_id):
            return _ask(response_id, now, patience, open_item=open_item(state))
        case _:
            raise InvalidTransitionError(f"{event} in {state}")


def _while_hesitating(state: Hesitating, event: Event, now: float, patience: Patience) -> Step:
    abort = [AbortReply(state.response_id)] if state.response_id else []
    match event:
        case FromModel(output=Failed()):
            # Nobody has noticed: the verdict asks once more.
            return Hesitating(state.item_id, None), []
        case FromModel(output=output):
            return replace(state, held=(*state.held, output)), []
        case SpeechResumed():
            return UserSpeaking(state.item_id), [*abort]
        case SpeechDropped():
            return Listening(), [*abort]
        case TurnEnded(answer=str()) if state.response_id:
            return _release(state.item_id, state.response_id, state.held, now, patience)
        case TurnEnded():
            after, actions = step(UserSpeaking(state.item_id), event, now, patience)
            return after, [*abort, *actions]
        case ReplyWanted(response_id):
            thinking, actions = _ask(response_id, now, patience, open_item=state.item_id)
            return thinking, [*abort, *actions]
        case _:
            raise InvalidTransitionError(f"{event} in {state}")


def _release(
    item_id: str, response_id: str, held: Sequence[Output | Call], now: float, patience: Patience
) -> Step:
    """The turn is over: what was held is said as if it came now."""
    floor: State = Thinking(response_id, now + patience.first)
    actions: list[Action] = [CommitItem(item_id), OpenResponse(response_id)]
    for output in held:
        floor, more = step(floor, FromModel(response_id, output), now, patience)
        actions += more
    return floor, actions


def _agents_deadline(state: Thinking | AgentSpeaking) -> float:
    is_playing = isinstance(state, AgentSpeaking) and state.complete
    return state.playout_ends_at if is_playing else state.deadline


def _while_overlapping(state: Overlap, event: Event, now: float, patience: Patience) -> Step:
    agent, item_id = state.agent, state.item_id
    heard_at = now if state.held_at is None else state.held_at
    match event:
        case OverlapSustained() if state.held_at is None:
            return replace(state, held_at=now), [Hold(agent.response_id)]
        case OverlapPassed(ended) if _is_early_answer(agent, heard_at):
            return _while_overlapping(state, OverlapInterrupts(ended), now, patience)
        case OverlapInterrupts(None):
            return UserSpeaking(item_id), [AnnounceSpeech(item_id), *_interrupt(agent, heard_at)]
        case OverlapInterrupts(TurnEnded() as ended):
            user, actions = _while_overlapping(state, OverlapInterrupts(), now, patience)
            after, more = step(user, ended, now, patience)
            return after, [*actions, AnnounceEndOfSpeech(item_id), *more]
        case OverlapPassed() | SpeechDropped():
            return _play_on(state, now), [Restore(agent.response_id)]
        case DeadlinePassed() if now >= state.decide_at:
            return _play_on(state, now), [Restore(agent.response_id)]
        case TurnEnded():
            after, actions = _while_replying(_play_on(state, now), event, now, patience)
            return after, [Restore(agent.response_id), *actions]
        case OverlapSustained() | SpeechStarted() | SpeechPaused() | SpeechResumed():
            return state, []
        case FromModel() | PlayoutReported():
            return _beside(state, _while_replying(agent, event, heard_at, patience))
        case _:
            return _beside(state, _while_replying(agent, event, now, patience))


def _is_early_answer(agent: AgentSpeaking | Thinking, heard_at: float) -> bool:
    """Whether the agent had all but finished: a "yes" is an answer then, and no backchannel."""
    if not isinstance(agent, AgentSpeaking) or not agent.complete:
        return False
    return agent.playout_ends_at - heard_at <= EARLY_ANSWER_S


def _beside(state: Overlap, agents: Step) -> Step:
    """The agent's side took a step; once it is silent, the sound is simply the user speaking."""
    agent, actions = agents
    if isinstance(agent, Thinking | AgentSpeaking):
        return replace(state, agent=agent), actions
    return UserSpeaking(state.item_id), [*actions, AnnounceSpeech(state.item_id)]


def _play_on(state: Overlap, now: float) -> AgentSpeaking | Thinking:
    """What the client held back ends later by as long as it was held."""
    ends_at = state.agent.playout_ends_at
    if state.held_at is None or ends_at < state.held_at:
        return state.agent
    return replace(state.agent, playout_ends_at=ends_at + now - state.held_at)


def early_reply(state: State) -> str | None:
    """The reply that is made in a pause, if one is."""
    return state.response_id if isinstance(state, Hesitating) else None


def is_at_rest(state: State) -> bool:
    """Whether nobody speaks, or is about to."""
    return isinstance(state, Listening)


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


def _ask(
    response_id: str,
    now: float,
    patience: Patience,
    playing_until: float = 0.0,
    open_item: str | None = None,
) -> Step:
    thinking = Thinking(response_id, now + patience.first, playing_until, open_item=open_item)
    return thinking, [OpenResponse(response_id), RequestReply(response_id)]


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
        case PlayoutReported(heard_s=heard_s) if isinstance(state, AgentSpeaking):
            return _correct(state, heard_s, now), []
        case SpeechStarted(item_id, interrupts=True) if isinstance(state, AgentSpeaking):
            return Overlap(state, item_id, now + patience.overlap), [Duck(state.response_id)]
        case SpeechStarted(item_id, interrupts=True):
            return UserSpeaking(item_id), _interrupt(state, now)
        case TurnEnded(item_id, answer):
            return _queue(state, item_id, answer, now, patience)
        case ReplyWanted(response_id) if open_response(state) is None:
            return _ask(response_id, now, patience, state.playout_ends_at, state.open_item)
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
        thinking, actions = _ask(state.queued, now, patience, until, goes_on)
        return thinking, [close, *actions]
    if isinstance(state, AgentSpeaking):
        return replace(state, complete=True), [close]
    return _yield_floor(state), [close]


def _yield_floor(state: Thinking | AgentSpeaking) -> Listening | UserSpeaking:
    """The agent has finished: a user who speaks meanwhile has the floor now."""
    return UserSpeaking(state.open_item) if state.open_item else Listening()


def heard_s(state: AgentSpeaking, now: float) -> float:
    """How much of the response the user has heard: by the client's last report, if there was one,
    and else as if playout began when it was sent."""
    return max(0.0, state.sent_s - max(0.0, state.playout_ends_at - now))


def _interrupt(state: Thinking | AgentSpeaking, now: float) -> list[Action]:
    actions: list[Action] = []
    if open_response(state):
        actions += [
            AbortReply(state.response_id),
            CloseResponse(state.response_id, "turn_detected"),
        ]
    if isinstance(state, AgentSpeaking):
        actions.append(CutItem(state.response_id, heard_s(state, now)))
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
    thinking, actions = _ask(answer, now, patience, state.playout_ends_at)
    return thinking, [commit, *actions]


def _give_up(state: Thinking | AgentSpeaking, now: float, patience: Patience) -> Step:
    if not open_response(state):
        return _yield_floor(state), []
    error = ModelError("the model server was silent for too long", code="model_timeout")
    floor, actions = _close(state, error, now, patience)
    return floor, [AbortReply(state.response_id), *actions]
