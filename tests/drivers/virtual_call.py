"""One client's call, played through a session on virtual time: exact, and it takes no time.

A call is a script: frames of speech and silence, client events and model outputs go in; the
events for the client come out. What holds for every call is checked at every step.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from agent.audio import RATE, SAMPLE_BYTES, samples_in, seconds
from agent.commands import AbortModel, AskModel, Close, Command, Overhear, Send, Transcribe
from agent.errors import ModelError, ProtocolError
from agent.floor import states as floor, step as turn
from agent.hearing.buffer import FRAME_SAMPLES
from agent.model.output import Ended, Failed, Output, Sound, Text
from agent.policy import Patience, Policy
from agent.realtime import client_events as protocol, server_events as events
from agent.realtime.config import (
    Audio,
    AudioInput,
    Extensions,
    SessionConfig,
    Transcription,
    TurnDetection,
)
from agent.realtime.items import MessageItem
from agent.realtime.server_events import ServerEvent
from agent.session import Session
from agent.trace.inputs import DeadlinePassed, FromModel, Input, Judged, Overheard, feed

FRAME = bytes(FRAME_SAMPLES * SAMPLE_BYTES)
FRAME_S = seconds(FRAME)
SECOND = Sound(bytes(RATE * SAMPLE_BYTES))
SPEAKS, IS_SILENT = 0.9, 0.1
BROKEN = Failed(ModelError("broken", code="model_broken"))
FIRST_S = 0.3
"""From a request to the first sound of its reply."""
PATIENCE = Patience(first=10.0, between=5.0, verdict=3.0)
POLICY = Policy(PATIENCE, early_start_ms=200, longest_turn_ms=60_000)

# Lengths in frames of 32 ms, as the default turn detection has them.
ONSET, PAUSE, END = 3, 7, 16
JUDGED = 19
"""Speech over the agent's voice that interrupts it."""
UTTERANCE = [SPEAKS] * 20 + [IS_SILENT] * END
ANSWER = (Text("It is "), SECOND, Text("sunny."), SECOND, Ended())


def opened(**changes: Any) -> SessionConfig:
    """A session as the server opens it."""
    fields: dict[str, Any] = {
        "id": "sess_1",
        "model": "gpt-realtime",
        "output_modalities": ["audio"],
        "instructions": "Be brief.",
        "audio": Audio(),
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "expires_at": 1_800_003_600,
    }
    return SessionConfig(**(fields | changes))


def config(
    turn_detection: TurnDetection | None, transcription: bool = False, duck: bool = False
) -> SessionConfig:
    asked = Transcription() if transcription else None
    audio = Audio(input=AudioInput(transcription=asked, turn_detection=turn_detection))
    return opened(audio=audio, x_mimo=Extensions(duck=duck))


def own_client(
    turn_detection: TurnDetection, ducks: bool, *, cancels_echoes: bool = False
) -> SessionConfig:
    """With the extensions that our clients ask for, or would without ducking."""
    audio = Audio(input=AudioInput(turn_detection=turn_detection))
    asked = Extensions(duck=ducks, playout=ducks, marks=True, echo_cancelled=cancels_echoes)
    return opened(audio=audio, x_mimo=asked)


def reply(pcm: bytes) -> list[tuple[float, Output]]:
    """What the model server says, with the times from the request: sound plays half as fast."""
    length = samples_in(480) * SAMPLE_BYTES
    sounds = [Sound(pcm[start : start + length]) for start in range(0, len(pcm), length)]
    said: list[tuple[float, Output]] = [(FIRST_S / 2, Text("Well then."))]
    said += [(FIRST_S + 0.24 * number, each) for number, each in enumerate(sounds)]
    return [*said, (said[-1][0], Ended())]


Told = TypeVar("Told", bound=ServerEvent)


def kind(event: ServerEvent) -> str:
    return str(event.__struct_config__.tag)


@dataclass
class Call:
    """Plays a script; `told` is what the client was told since it was last asked for."""

    config: SessionConfig
    policy: Policy = POLICY
    now: float = 100.0
    ends_at: float = math.inf
    replies: Callable[[AskModel], Iterable[tuple[float, Output]]] = lambda _: ()
    """What the model server says by itself, each with the time from the request."""
    words: Sequence[str] = ("Stop!", "mm-hm")
    """What the recogniser makes of sounds that were passed over, in turn."""
    reads_in_s: float = 0.0
    asked: AskModel | None = None
    """The request that is open at the model server."""
    asks: list[AskModel] = field(default_factory=list[AskModel])
    transcribe: list[Transcribe] = field(default_factory=list[Transcribe])
    overheard: int = 0
    sent: list[ServerEvent] = field(default_factory=list[ServerEvent])
    frames: list[bytes] = field(default_factory=list[bytes])
    """The same events as they go over the wire."""
    running: str | None = None
    """The response that the client was told of and that isn't done."""
    over: set[str] = field(default_factory=set[str])
    _ids: Counter[str] = field(default_factory=Counter[str])
    _times: list[float] = field(default_factory=list[float])
    _due: list[tuple[float, Input]] = field(default_factory=list[tuple[float, Input]])
    _asked_for: int = 0

    def __post_init__(self) -> None:
        self.session = Session(self.config, self.policy, self.new_id, self.ends_at)
        self._perform(self.session.open())
        assert self.told() == ["session.created"]

    def new_id(self, kind: str) -> str:
        self._ids[kind] += 1
        return f"{kind}_{self._ids[kind]}"

    # --- what goes in ---------------------------------------------------------------------

    def user(self, probabilities: list[float], frame: bytes = FRAME) -> None:
        """The user's microphone sends frames in real time."""
        for probability in probabilities:
            self.wait(FRAME_S)
            self.append(frame, probability)

    def append(self, pcm: bytes, *probabilities: float) -> None:
        """Sound arrives now, and the voice activity detector judges it so."""
        try:
            judged = self.session.append(protocol.InputAudioAppend(audio=pcm))
        except ProtocolError as error:
            self.take(error)
            return
        for probability in probabilities if judged else ():
            self.take(Judged(probability))

    def client(self, kind: str, **fields: object) -> None:
        """The client sends an event."""
        self.receive(msgspec.json.encode({"type": kind, **fields}))

    def receive(self, frame: bytes | str) -> None:
        """The client sends a text frame."""
        try:
            event = protocol.decode(frame)
        except ProtocolError as error:
            self.take(error)
        else:
            self.take(event)

    def update(self, **audio_input: object) -> None:
        session = {"type": "realtime", "audio": {"input": audio_input}}
        self.client("session.update", session=session)

    def model(self, *outputs: Output, of: str | None = None) -> None:
        """The model server answers the open request, or says something late for an older one."""
        for output in outputs:
            latest = self.asks[-1].response_id if self.asks else "resp_0"
            self.take(FromModel(of or latest, output))

    def transcript(self, wish: Transcribe, words: str) -> None:
        self._perform(self.session.transcribed(wish.item_id, words, seconds(wish.pcm)))

    def wait(self, duration_s: float) -> None:
        """Time passes; deadlines on the way are met, and what is due comes."""
        until = self.now + duration_s
        while True:
            deadline = math.inf if self.session.deadline is None else self.session.deadline
            due = min(self._due, key=lambda each: each[0], default=(math.inf, None))
            if min(deadline, due[0]) > until:
                break
            self.now = max(self.now, min(deadline, due[0]))
            if due[1] is None or deadline <= due[0]:
                self.take(DeadlinePassed())
            else:
                self._due.remove(due)
                self.take(due[1])
        self.now = until

    def take(self, taken: Input) -> None:
        """The session takes in something."""
        match taken:
            case FromModel(response_id, Ended() | Failed()) if self._is_asked(response_id):
                self.asked = None
            case _:
                pass
        self._perform(feed(self.session, taken, self.now))

    def _is_asked(self, response_id: str) -> bool:
        return self.asked is not None and self.asked.response_id == response_id

    # --- what comes out -------------------------------------------------------------------

    def told(self) -> list[str]:
        """The types of the events that the client got since the last call."""
        return [kind(event) for event in self.news()]

    def news(self) -> list[ServerEvent]:
        """The events that the client got since the last call."""
        new = self.sent[self._asked_for :]
        self._asked_for = len(self.sent)
        return new

    def error(self) -> events.ErrorDetail:
        """The only event since the last call, which is an error."""
        match self.news():
            case [events.Error(error=detail)]:
                return detail
            case found:
                raise AssertionError(f"no error alone: {found}")

    def all(self, kind: type[Told]) -> list[Told]:
        """The events of a kind that the client was ever told of."""
        return [each for each in self.sent if isinstance(each, kind)]

    def times(self, kind: type[ServerEvent]) -> list[float]:
        """When that was."""
        told = zip(self._times, self.sent, strict=True)
        return [at for at, event in told if isinstance(event, kind)]

    def done(self) -> events.ResponseObject:
        """The latest response that is over."""
        return self.all(events.ResponseDone)[-1].response

    def item(self, role: str) -> str:
        """Id of the latest item of a role."""
        items = [each.item for each in self.all(events.ItemAdded)]
        found = [each.id for each in items if isinstance(each, MessageItem) and each.role == role]
        assert isinstance(found[-1], str)
        return found[-1]

    def items(self) -> list[str]:
        """Ids of all items that were ever told of."""
        added = (each.item.id for each in self.all(events.ItemAdded))
        return [item_id for item_id in added if isinstance(item_id, str)]

    # --- what always holds ----------------------------------------------------------------

    def _perform(self, commands: list[Command]) -> None:
        for command in commands:
            self._do(command)
        self._check()

    def _do(self, command: Command) -> None:
        match command:
            case Send(event):
                self._send(event)
            case AskModel(response_id):
                assert self.asked is None, "two requests at once"
                assert response_id not in self.over, "asked for a dead response"
                self.asked = command
                self.asks.append(command)
                said = self.replies(command)
                self._due += [(self.now + at, FromModel(response_id, out)) for at, out in said]
            case AbortModel(response_id):
                if self._is_asked(response_id):
                    self.asked = None
                self._due = [each for each in self._due if not _is_of(each[1], response_id)]
            case Transcribe():
                self.transcribe.append(command)
            case Overhear(item_id):
                if self.words:
                    read = Overheard(item_id, self.words[self.overheard % len(self.words)])
                    self._due.append((self.now + self.reads_in_s, read))
                self.overheard += 1
            case Close():
                assert self.session.is_over, "closed before its time"

    def _check(self) -> None:
        """What floor and microphone hold of the user is the same, and nobody waits for ever."""
        if self.session.is_over:
            return
        state, microphone = self.session.state, self.session.microphone
        assert turn.open_item(state) == microphone.open_item, f"{state} beside another utterance"
        assert isinstance(state, floor.Overlap) == microphone.is_judging, (
            f"{state} judges otherwise"
        )
        assert isinstance(state, floor.Listening) or self.session.deadline, f"{state} has no end"
        if self.running is not None:
            assert self.session.deadline is not None, "a response that nothing ends"

    def _send(self, event: ServerEvent) -> None:
        self.frames.append(events.encode(event, f"event_{len(self.frames) + 1}"))
        assert msgspec.json.decode(self.frames[-1].partition(b"\n")[0])["type"] == kind(event)
        match event:
            case events.ResponseCreated(response=response):
                assert self.running is None, "two responses at once"
                assert response.id not in self.over, "a response twice"
                self.running = response.id
            case events.ResponseDone(response=response):
                assert response.id == self.running, "done without created"
                self.running = None
                self.over.add(response.id)
                if response.status == "cancelled":
                    assert not self._is_asked(response.id)
            case events.PartEvent() | events.OutputItemAdded() | events.OutputItemDone():
                assert event.response_id == self.running, "an event of a response that is not open"
            case _:
                pass
        self.sent.append(event)
        self._times.append(self.now)


def _is_of(taken: Input, response_id: str) -> bool:
    return isinstance(taken, FromModel) and taken.response_id == response_id
