"""The floor: the state table row by row, and what holds for every conversation."""

import math
from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from agent.audio import RATE, SAMPLE_BYTES
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
from agent.floor.step import deadline, heard_s, open_item, open_response, step
from agent.model.output import Ended, Failed, Sound, Text
from agent.policy import Patience

PATIENCE = Patience(first=10.0, between=5.0)
SECOND = Sound(bytes(RATE * SAMPLE_BYTES))
BROKEN = ModelError("broken")
TIMEOUT_CODE = "model_timeout"

USER = UserSpeaking("item_1")
USER_2 = UserSpeaking("item_2")
HESITATING = Hesitating("item_1", "resp_1")
UNPREPARED = Hesitating("item_1", None)
THINKING = Thinking("resp_1", 20.0)
SPEAKING = AgentSpeaking("resp_1", deadline=15.0, sent_s=3.0, playout_ends_at=12.0)
PLAYING = AgentSpeaking("resp_1", 15.0, 3.0, 12.0, complete=True)
OVERLAP = Overlap(SPEAKING, "item_2", decide_at=11.5)
OVERLAP_COMPLETE = Overlap(PLAYING, "item_2", decide_at=11.5)

ROWS: list[tuple[str, State, Event, State, list[Action]]] = [
    ("the user begins", Listening(), SpeechStarted("item_1"), USER, []),
    ("a pause asks in advance", USER, SpeechPaused("resp_1"), HESITATING,
     [RequestReply("resp_1", "item_1")]),
    ("speech after the pause drops the reply", HESITATING, SpeechResumed(), USER,
     [AbortReply("resp_1")]),
    ("a reply that came in a pause is held", HESITATING, FromModel("resp_1", SECOND),
     Hesitating("item_1", "resp_1", (SECOND,)), []),
    ("a reply that failed in a pause is forgotten", HESITATING,
     FromModel("resp_1", Failed(BROKEN)), UNPREPARED, []),
    ("the verdict opens the response", HESITATING, TurnEnded("item_1", "resp_2"), THINKING,
     [CommitItem("item_1"), OpenResponse("resp_1")]),
    ("the verdict releases what was held",
     Hesitating("item_1", "resp_1", (Text("Hi"), SECOND)), TurnEnded("item_1", "resp_2"),
     AgentSpeaking("resp_1", deadline=15.0, sent_s=1.0, playout_ends_at=11.0),
     [CommitItem("item_1"), OpenResponse("resp_1"), Deliver("resp_1", Text("Hi")),
      Deliver("resp_1", SECOND)]),
    ("a pause in which no reply is prepared", USER, SpeechPaused(None), UNPREPARED, []),
    ("after it the verdict asks", UNPREPARED, TurnEnded("item_1", "resp_2"),
     Thinking("resp_2", 20.0),
     [CommitItem("item_1"), OpenResponse("resp_2"), RequestReply("resp_2")]),
    ("or the user goes on", UNPREPARED, SpeechResumed(), USER, []),
    ("a verdict without an early reply asks now", USER, TurnEnded("item_1", "resp_1"), THINKING,
     [CommitItem("item_1"), OpenResponse("resp_1"), RequestReply("resp_1")]),
    ("a client that answers itself is not answered", USER, TurnEnded("item_1", None), Listening(),
     [CommitItem("item_1")]),
    ("a cleared buffer drops the utterance", HESITATING, SpeechDropped(), Listening(),
     [AbortReply("resp_1")]),
    ("a client may ask for a reply", Listening(), ReplyWanted("resp_1"), THINKING,
     [OpenResponse("resp_1"), RequestReply("resp_1")]),
    ("text alone is not audible", THINKING, FromModel("resp_1", Text("Hi")),
     Thinking("resp_1", 15.0), [Deliver("resp_1", Text("Hi"))]),
    ("the first sound takes the floor", THINKING, FromModel("resp_1", SECOND),
     AgentSpeaking("resp_1", deadline=15.0, sent_s=1.0, playout_ends_at=11.0),
     [Deliver("resp_1", SECOND)]),
    ("sound plays after the sound before it", SPEAKING, FromModel("resp_1", SECOND),
     AgentSpeaking("resp_1", deadline=15.0, sent_s=4.0, playout_ends_at=13.0),
     [Deliver("resp_1", SECOND)]),
    ("a complete response goes on playing", SPEAKING, FromModel("resp_1", Ended()), PLAYING,
     [CloseResponse("resp_1")]),
    ("when it has played, nobody speaks", PLAYING, DeadlinePassed(), Listening(), []),
    ("speech before the first sound aborts", THINKING, SpeechStarted("item_2"),
     UserSpeaking("item_2"), [AbortReply("resp_1"), CloseResponse("resp_1", "turn_detected")]),
    ("a sound over the agent's voice ducks it", SPEAKING, SpeechStarted("item_2"), OVERLAP,
     [Duck("resp_1")]),
    ("so it does when the response is complete", PLAYING, SpeechStarted("item_2"),
     OVERLAP_COMPLETE, [Duck("resp_1")]),
    ("the response goes on meanwhile", OVERLAP, FromModel("resp_1", SECOND),
     Overlap(AgentSpeaking("resp_1", 15.0, 4.0, 13.0), "item_2", 11.5),
     [Deliver("resp_1", SECOND)]),
    ("and may be completed", OVERLAP, FromModel("resp_1", Ended()), OVERLAP_COMPLETE,
     [CloseResponse("resp_1")]),
    ("barge-in aborts and cuts to what was heard", OVERLAP, OverlapInterrupts(),
     UserSpeaking("item_2"),
     [AnnounceSpeech("item_2"), AbortReply("resp_1"), CloseResponse("resp_1", "turn_detected"),
      CutItem("resp_1", 1.0)]),
    ("barge-in into a complete response only cuts", OVERLAP_COMPLETE, OverlapInterrupts(),
     UserSpeaking("item_2"), [AnnounceSpeech("item_2"), CutItem("resp_1", 1.0)]),
    ("a backchannel changes nothing", OVERLAP, OverlapPassed(), SPEAKING, [Restore("resp_1")]),
    ("unless the agent has all but finished",
     replace(OVERLAP_COMPLETE, agent=replace(PLAYING, playout_ends_at=10.5)), OverlapPassed(),
     USER_2, [AnnounceSpeech("item_2"), CutItem("resp_1", 2.5)]),
    ("a turn that was over when it was judged is answered at once",
     replace(OVERLAP_COMPLETE, agent=replace(PLAYING, playout_ends_at=10.5)),
     OverlapPassed(TurnEnded("item_2", "resp_2")), Thinking("resp_2", 20.0),
     [AnnounceSpeech("item_2"), CutItem("resp_1", 2.5), AnnounceEndOfSpeech("item_2"),
      CommitItem("item_2"), OpenResponse("resp_2"), RequestReply("resp_2")]),
    ("so is one that interrupted", OVERLAP_COMPLETE,
     OverlapInterrupts(TurnEnded("item_2", "resp_2")), Thinking("resp_2", 20.0),
     [AnnounceSpeech("item_2"), CutItem("resp_1", 1.0), AnnounceEndOfSpeech("item_2"),
      CommitItem("item_2"), OpenResponse("resp_2"), RequestReply("resp_2")]),
    ("one that was passed is no turn", OVERLAP, OverlapPassed(TurnEnded("item_2", "resp_2")),
     SPEAKING, [Restore("resp_1")]),
    ("a sound that goes on is listened to", OVERLAP, OverlapSustained(),
     replace(OVERLAP, held_at=10.0), [Hold("resp_1")]),
    ("what plays is kept then", replace(OVERLAP, held_at=9.5), OverlapPassed(),
     replace(SPEAKING, playout_ends_at=12.5), [Restore("resp_1")]),
    ("and is cut where it was stopped", replace(OVERLAP_COMPLETE, held_at=9.5),
     OverlapInterrupts(), UserSpeaking("item_2"),
     [AnnounceSpeech("item_2"), CutItem("resp_1", 0.5)]),
    ("what comes meanwhile plays after what is kept", replace(OVERLAP, held_at=9.5),
     FromModel("resp_1", SECOND),
     Overlap(AgentSpeaking("resp_1", 14.5, 4.0, 13.0), "item_2", 11.5, held_at=9.5),
     [Deliver("resp_1", SECOND)]),
    ("a microphone that went dead said nothing", replace(OVERLAP, decide_at=10.0),
     DeadlinePassed(), SPEAKING, [Restore("resp_1")]),
    ("once the agent has finished, the sound is the user speaking",
     replace(OVERLAP_COMPLETE, agent=replace(PLAYING, playout_ends_at=10.0)), DeadlinePassed(),
     UserSpeaking("item_2"), [AnnounceSpeech("item_2")]),
    ("so it is when the response failed unheard",
     Overlap(THINKING, "item_2", 11.5), FromModel("resp_1", Failed(BROKEN)),
     UserSpeaking("item_2"), [CloseResponse("resp_1", BROKEN), AnnounceSpeech("item_2")]),
    ("a commit while it is judged is a turn", OVERLAP, TurnEnded("item_2", None), SPEAKING,
     [Restore("resp_1"), CommitItem("item_2")]),
    ("a cleared buffer drops what is judged", OVERLAP, SpeechDropped(), SPEAKING,
     [Restore("resp_1")]),
    ("the client cancels while it is judged", OVERLAP, CancelWanted(), OVERLAP_COMPLETE,
     [AbortReply("resp_1"), CloseResponse("resp_1", "client_cancelled")]),
    ("speech that may not interrupt does not", SPEAKING,
     SpeechStarted("item_2", interrupts=False), replace(SPEAKING, open_item="item_2"), []),
    ("it has the floor when the agent has finished", replace(PLAYING, open_item="item_2"),
     DeadlinePassed(), USER_2, []),
    ("or fails", replace(THINKING, open_item="item_2"), FromModel("resp_1", Failed(BROKEN)),
     USER_2, [CloseResponse("resp_1", BROKEN)]),
    ("unless the buffer was cleared", replace(SPEAKING, open_item="item_2"), SpeechDropped(),
     SPEAKING, []),
    ("who is answered while speaking goes on", USER_2, ReplyWanted("resp_1"),
     replace(THINKING, open_item="item_2"), [OpenResponse("resp_1"), RequestReply("resp_1")]),
    ("its turn is answered afterwards", replace(THINKING, open_item="item_2"),
     TurnEnded("item_2", "resp_2"),
     Thinking("resp_1", 20.0, queued="resp_2"), [CommitItem("item_2")]),
    ("afterwards", Thinking("resp_1", 20.0, queued="resp_2"), FromModel("resp_1", Ended()),
     Thinking("resp_2", 20.0),
     [CloseResponse("resp_1"), OpenResponse("resp_2"), RequestReply("resp_2")]),
    ("a report of what was played corrects the estimate", SPEAKING, PlayoutReported("resp_1", 0.4),
     replace(SPEAKING, playout_ends_at=12.6), []),
    ("it can't have played more than was sent", PLAYING, PlayoutReported("resp_1", 9.0),
     replace(PLAYING, playout_ends_at=10.0), []),
    ("while the client holds its sound it has played what it had then",
     replace(OVERLAP, held_at=9.5), PlayoutReported("resp_1", 0.25),
     replace(OVERLAP, agent=replace(SPEAKING, playout_ends_at=12.25), held_at=9.5), []),
    ("a report of an old response is dropped", THINKING, PlayoutReported("resp_0", 1.0),
     THINKING, []),
    ("the client cancels", THINKING, CancelWanted(), Listening(),
     [AbortReply("resp_1"), CloseResponse("resp_1", "client_cancelled")]),
    ("a model that fails ends the response", THINKING, FromModel("resp_1", Failed(BROKEN)),
     Listening(), [CloseResponse("resp_1", BROKEN)]),
    ("an event of an old response is dropped", THINKING, FromModel("resp_0", SECOND), THINKING, []),
    ("so is one after the end", PLAYING, FromModel("resp_1", SECOND), PLAYING, []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("state", "event", "after", "actions"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_state_table(state: State, event: Event, after: State, actions: list[Action]):
    assert step(state, event, 10.0, PATIENCE) == (after, actions)


def test_a_silent_model_is_given_up():
    after, actions = step(THINKING, DeadlinePassed(), 20.0, PATIENCE)
    assert after == Listening()
    match actions:
        case [AbortReply("resp_1"), CloseResponse("resp_1", ModelError() as error)]:
            assert error.code == TIMEOUT_CODE
        case _:
            pytest.fail(f"unexpected: {actions}")


def test_what_cannot_happen_is_a_bug():
    with pytest.raises(InvalidTransitionError):
        step(USER, SpeechStarted("item_2"), 0.0, PATIENCE)


@dataclass
class Conversation:
    """Plays any sequence of moves that a session could make and checks what must always hold."""

    state: State = field(default_factory=Listening)
    now: float = 0.0
    count: int = 0
    asked: set[str] = field(default_factory=set[str])
    dead: set[str] = field(default_factory=set[str])
    opened: list[str] = field(default_factory=list[str])
    closed: list[str] = field(default_factory=list[str])
    announced: list[str] = field(default_factory=list[str])
    sent_s: dict[str, float] = field(default_factory=dict[str, float])

    def new(self, kind: str) -> str:
        self.count += 1
        return f"{kind}_{self.count}"

    def move(self, choice: str, pause_s: float) -> None:
        self.now += pause_s
        due = deadline(self.state, math.inf)
        if due is not None and due <= self.now:
            self.take(DeadlinePassed())
        event = self.event(choice)
        if event is not None:
            self.take(event)

    def event(self, choice: str) -> Event | None:
        """The event of that name, if the session could have it now."""
        state, hesitating = self.state, isinstance(self.state, Hesitating)
        user = state.item_id if isinstance(state, Overlap) else open_item(state)
        reply = state.response_id if isinstance(state, Hesitating) else open_response(state)
        match choice:
            case "start" if user is None:
                return SpeechStarted(self.new("item"))
            case "murmur" if user is None and not isinstance(state, Listening):
                return SpeechStarted(self.new("item"), interrupts=False)
            case "sustain" if isinstance(state, Overlap):
                return OverlapSustained()
            case "interrupt" if isinstance(state, Overlap):
                return OverlapInterrupts()
            case "interrupt and end" if isinstance(state, Overlap):
                return OverlapInterrupts(TurnEnded(state.item_id, self.new("resp")))
            case "pass" if isinstance(state, Overlap):
                return OverlapPassed()
            case "pass and end" if isinstance(state, Overlap):
                return OverlapPassed(TurnEnded(state.item_id, self.new("resp")))
            case "pause" if user and not hesitating and not isinstance(state, Overlap):
                return SpeechPaused(self.new("resp"))
            case "pause unprepared" if user and not hesitating and not isinstance(state, Overlap):
                return SpeechPaused(None)
            case "resume" if hesitating:
                return SpeechResumed()
            case "drop":
                return SpeechDropped()
            case "end":
                return TurnEnded(user or self.new("item"), self.new("resp"))
            case "end unanswered":
                return TurnEnded(user or self.new("item"), None)
            case "want" if open_response(state) is None:
                return ReplyWanted(self.new("resp"))
            case "cancel" if open_response(state):
                return CancelWanted()
            case "text" | "sound" | "done" | "fail":
                output = {"text": Text("a"), "sound": SECOND, "done": Ended()}.get(choice)
                return FromModel(reply or "resp_0", output or Failed(BROKEN))
            case "report":
                return PlayoutReported(self.opened[-1] if self.opened else "resp_0", self.now / 3)
            case "late" if self.dead:
                return FromModel(min(self.dead), SECOND)
            case _:
                return None

    def take(self, event: Event) -> None:
        if isinstance(self.state, Hesitating) and isinstance(event, FromModel):
            match event.output:
                case Failed():
                    self.dead.add(event.response_id)
                case _:
                    pass
        before = self.state
        self.state, actions = step(before, event, self.now, PATIENCE)
        if AnnounceEndOfSpeech not in map(type, actions) and AnnounceSpeech in map(type, actions):
            assert isinstance(before, Overlap)
            assert self.state == UserSpeaking(before.item_id)
        for action in actions:
            self.check(action)
        assert len(self.opened) - len(self.closed) == (open_response(self.state) is not None)
        assert isinstance(self.state, Listening) or deadline(self.state, math.inf) is not None
        agent = self.state.agent if isinstance(self.state, Overlap) else self.state
        if isinstance(agent, AgentSpeaking):
            assert 0 <= heard_s(agent, self.now) <= agent.sent_s

    def check(self, action: Action) -> None:
        match action:
            case RequestReply(response_id):
                assert not self.asked - self.dead, "two requests at once"
                self.asked.add(response_id)
            case AbortReply(response_id):
                assert response_id in self.asked
                self.dead.add(response_id)
            case OpenResponse(response_id):
                assert len(self.opened) == len(self.closed), "two open responses"
                self.opened.append(response_id)
            case Deliver(response_id, output):
                assert response_id == self.opened[-1], "audible before the verdict"
                assert response_id not in self.dead | set(self.closed), "audio of a dead response"
                if isinstance(output, Sound):
                    self.sent_s[response_id] = self.sent_s.get(response_id, 0.0) + 1.0
            case CloseResponse(response_id):
                assert response_id == self.opened[-1]
                assert response_id not in self.closed
                self.closed.append(response_id)
                self.dead.add(response_id)
            case CutItem(response_id, heard_s):
                assert 0 <= heard_s <= self.sent_s[response_id]
            case Duck(response_id) | Hold(response_id) | Restore(response_id):
                assert response_id in self.opened
            case AnnounceSpeech(item_id):
                self.announced.append(item_id)
            case AnnounceEndOfSpeech(item_id):
                assert self.announced[-1] == item_id
                assert open_item(self.state) is None
            case CommitItem():
                pass


MOVES = [
    *("start", "murmur", "sustain", "interrupt", "pass", "pause", "resume", "drop", "end"),
    *(
        "interrupt and end",
        "pass and end",
        "pause unprepared",
        "end unanswered",
        "want",
        "cancel",
        "text",
        "sound",
        "done",
        "fail",
        "late",
        "report",
    ),
]


def hold(script: bytes) -> None:
    """Two bytes make a move: which, and after how many 64ths of a second."""
    conversation = Conversation()
    for which, wait in zip(script[::2], script[1::2], strict=False):
        conversation.move(MOVES[which % len(MOVES)], wait / 64)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_every_conversation_keeps_the_rules(script: bytes):
    hold(script)


def test_ten_thousand_conversations_keep_the_rules():
    random = Random(1)
    for _ in range(10_000):
        hold(random.randbytes(random.randrange(81)))
