"""One client's call, played through a session on virtual time: exact, and it takes no time.

A call is a script: frames of speech and silence, client events and model outputs go in; the
events for the client come out. What holds for every call is checked at every step.
"""

from dataclasses import dataclass, field

import msgspec

from agent.audio import RATE, SAMPLE_BYTES, seconds
from agent.commands import AbortModel, AskModel, Close, Command, Overhear, Send, Transcribe, refuse
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
from tests.drivers import scripted

FRAME = bytes(FRAME_SAMPLES * SAMPLE_BYTES)
FRAME_S = seconds(FRAME)
SECOND = Sound(bytes(RATE * SAMPLE_BYTES))
SPEAKS, IS_SILENT = 0.9, 0.1
BROKEN = Failed(ModelError("broken", code="model_broken"))
PATIENCE = Patience(first=10.0, between=5.0, verdict=3.0)

# Lengths in frames of 32 ms, as the default turn detection has them.
ONSET, PAUSE, END = 3, 7, 16
JUDGED = 19
"""Speech over the agent's voice that interrupts it."""
UTTERANCE = [SPEAKS] * 20 + [IS_SILENT] * END
ANSWER = (Text("It is "), SECOND, Text("sunny."), SECOND, Ended())


def config(
    turn_detection: TurnDetection | None, transcription: bool = False, duck: bool = False
) -> SessionConfig:
    asked = Transcription() if transcription else None
    audio = Audio(input=AudioInput(transcription=asked, turn_detection=turn_detection))
    return scripted.config(model="any", audio=audio, x_mimo=Extensions(duck=duck))


def kind(event: ServerEvent) -> str:
    return str(event.__struct_config__.tag)


@dataclass
class Call:
    """Plays a script; `told` is what the client was told since it was last asked for."""

    config: SessionConfig
    early_start_ms: int = 200
    longest_turn_ms: int = 60_000
    now: float = 100.0
    asked: AskModel | None = None
    """The request that is open at the model server."""
    asks: list[AskModel] = field(default_factory=list[AskModel])
    transcribe: list[Transcribe] = field(default_factory=list[Transcribe])
    overheard: int = 0
    sent: list[ServerEvent] = field(default_factory=list[ServerEvent])
    running: str | None = None
    """The response that the client was told of and that isn't done."""
    over: set[str] = field(default_factory=set[str])
    _count: int = 0
    _asked_for: int = 0

    def __post_init__(self) -> None:
        timing = Policy(PATIENCE, self.early_start_ms, self.longest_turn_ms)
        self.session = Session(self.config, timing, self._new_id)
        self._perform(self.session.open())
        assert self.told() == ["session.created"]

    def _new_id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._count}"

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
            self._perform([refuse(error)])
            return
        for probability in probabilities if judged else ():
            self._perform(self.session.judge_next_frame(probability, self.now))

    def client(self, kind: str, **fields: object) -> None:
        """The client sends an event."""
        frame = msgspec.json.encode({"type": kind, **fields})
        try:
            event = protocol.decode(frame)
        except ProtocolError as error:
            self._perform([refuse(error)])
        else:
            self._perform(self.session.receive(event, self.now))

    def update(self, **audio_input: object) -> None:
        session = {"type": "realtime", "audio": {"input": audio_input}}
        self.client("session.update", session=session)

    def model(self, *outputs: Output, of: str | None = None) -> None:
        """The model server answers the open request, or says something late for an older one."""
        for output in outputs:
            response_id = of or (self.asked.response_id if self.asked else "resp_0")
            if self.asked and self.asked.response_id == response_id:
                self.asked = None if isinstance(output, Ended | Failed) else self.asked
            self._perform(self.session.from_model(response_id, output, self.now))

    def transcript(self, wish: Transcribe, words: str) -> None:
        self._perform(self.session.transcribed(wish.item_id, words, seconds(wish.pcm)))

    def wait(self, duration_s: float) -> None:
        """Time passes; deadlines on the way are met."""
        until = self.now + duration_s
        while (due := self.session.deadline) is not None and due <= until:
            self.now = max(self.now, due)
            self._perform(self.session.pass_deadline(self.now))
        self.now = until

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

    def done(self) -> events.ResponseObject:
        """The latest response that is over."""
        ends = (each for each in reversed(self.sent) if isinstance(each, events.ResponseDone))
        return next(ends).response

    def item(self, role: str) -> str:
        """Id of the latest item of a role."""
        added = (each for each in reversed(self.sent) if isinstance(each, events.ItemAdded))
        items = (each.item for each in added)
        found = next(
            each.id for each in items if isinstance(each, MessageItem) and each.role == role
        )
        assert isinstance(found, str)
        return found

    def items(self) -> list[str]:
        """Ids of all items that were ever told of."""
        added = (each.item.id for each in self.sent if isinstance(each, events.ItemAdded))
        return [item_id for item_id in added if isinstance(item_id, str)]

    # --- what always holds ----------------------------------------------------------------

    def _perform(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Send(event):
                    self._send(event)
                case AskModel(response_id):
                    assert self.asked is None, "two requests at once"
                    assert response_id not in self.over, "asked for a dead response"
                    self.asked = command
                    self.asks.append(command)
                case AbortModel(response_id):
                    if self.asked and self.asked.response_id == response_id:
                        self.asked = None
                case Transcribe():
                    self.transcribe.append(command)
                case Overhear(item_id):
                    # Every other sound that is passed over turns out to stop the agent.
                    self.overheard += 1
                    words = ("mm-hm", "Stop!")[self.overheard % 2]
                    self._perform(self.session.overheard(item_id, words, self.now))
                case Close():
                    raise AssertionError("nothing here lasts an hour")
        self._check()

    def _check(self) -> None:
        """What floor and microphone hold of the user is the same, and nobody waits for ever."""
        state, microphone = self.session.state, self.session.microphone
        assert turn.open_item(state) == microphone.open_item, f"{state} beside another utterance"
        assert isinstance(state, floor.Overlap) == microphone.is_judging, (
            f"{state} judges otherwise"
        )
        assert isinstance(state, floor.Listening) or self.session.deadline, f"{state} has no end"
        if self.running is not None:
            assert self.session.deadline is not None, "a response that nothing ends"

    def _send(self, event: ServerEvent) -> None:
        decoded = msgspec.json.decode(events.encode(event, "event_1"))
        assert decoded["type"] == kind(event)
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
                    assert self.asked is None or self.asked.response_id != response.id
            case events.PartEvent() | events.OutputItemAdded() | events.OutputItemDone():
                assert event.response_id == self.running, "an event of a response that is not open"
            case _:
                pass
        self.sent.append(event)
