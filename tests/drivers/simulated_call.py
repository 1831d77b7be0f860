"""A call of the simulated caller with the core, on virtual time: exact, and over at once.

The caller's mouth and ears, the real voice activity detector and a session meet without a
socket; the model is a script. Only the network and the clock are left out.
"""

from dataclasses import dataclass, field
from itertools import count

import msgspec
import numpy as np

from agent.audio import RATE, Samples
from agent.commands import AbortModel, AskModel, Command, Send
from agent.model.output import Ended, Output, Sound, Text
from agent.policy import Patience, Policy
from agent.realtime import client_events as protocol
from agent.realtime.config import (
    SemanticVad,
    TurnDetection,
)
from agent.trace.inputs import DeadlinePassed, FromModel, Input, Judged, feed
from agent.trace.lines import Line
from agent.trace.recorder import Recorder, Setup
from client.evaluation.scenarios import Scenario
from client.evaluation.simulated_phone import Event, SimulatedPhone, Take
from client.sound.clip import FRAME_SAMPLES
from server.vad import Silero
from tests.drivers.virtual_call import own_client

FIRST_CHUNK_S = 0.3
CHUNK_S = 0.48
RTF = 0.5
CHUNKS = 10
TIMING = Policy(Patience(3.0, 3.0), early_start_ms=160, longest_turn_ms=60_000)


def reply(echo: Samples | None) -> list[tuple[float, Output]]:
    """What the model says, each with the time from the request; a hum, or what is to echo."""
    length = int(CHUNK_S * RATE)
    hum = (8_000 * np.sin(2 * np.pi * 200 * np.arange(length * CHUNKS) / RATE)).astype("<i2")
    sound = hum if echo is None else echo
    parts = [sound[start : start + length] for start in range(0, len(sound), length)]
    said: list[tuple[float, Output]] = [(FIRST_CHUNK_S / 2, Text("Well then."))]
    for number, part in enumerate(parts):
        said.append((FIRST_CHUNK_S + number * CHUNK_S * RTF, Sound(part.tobytes())))
    return [*said, (said[-1][0], Ended())]


@dataclass
class SimulatedCall:
    """Holds one call; `take` and `lines` tell of it afterwards."""

    scenario: Scenario
    detection: TurnDetection = field(default_factory=SemanticVad)
    ducks: bool = True
    answers: bool = True
    """Whether the model says anything."""
    lines: list[Line] = field(default_factory=list[Line])

    def __post_init__(self) -> None:
        ids = count()
        self._recorder = Recorder(self.lines.append, lambda kind: f"{kind}_{next(ids)}")
        setup = Setup(own_client(self.detection, self.ducks), TIMING)
        self._recorder.began(setup, 0.0)
        self._session = setup.session(self._recorder.new_id)
        self._vad = Silero()
        self._take = Take(self.scenario)
        self._phone = SimulatedPhone(self._take, reports=self.ducks)
        self._due: list[tuple[float, FromModel]] = []

    def hold(self) -> Take:
        self._perform(self._session.open(), 0.0)
        now = 0
        while not self._phone.is_over(now):
            for report in self._phone.report(now):
                self._answer(report, now / RATE)
            spoken = self._phone.frame(now)
            now += FRAME_SAMPLES
            self._let_time_pass(now / RATE)
            self._give(protocol.InputAudioAppend(audio=spoken), now / RATE)
            for probability in self._vad.probabilities(spoken):
                self._give(Judged(probability), now / RATE)
        self._recorder.ended(now / RATE)
        return self._take

    def _let_time_pass(self, until: float) -> None:
        """Let the model speak and deadlines pass, in their order."""
        while True:
            deadline = self._session.deadline
            said_at = min((at for at, _ in self._due), default=until + 1)
            if deadline is not None and deadline <= min(said_at, until):
                self._give(DeadlinePassed(), deadline)
            elif said_at <= until:
                place = min(range(len(self._due)), key=lambda index: self._due[index][0])
                self._give(self._due.pop(place)[1], said_at)
            else:
                return

    def _give(self, taken: Input, now: float) -> None:
        self._recorder.took(taken, now)
        self._perform(feed(self._session, taken, now), now)

    def _answer(self, event: Event, now: float) -> None:
        self._give(protocol.decode(msgspec.json.encode(event)), now)

    def _perform(self, commands: list[Command], now: float) -> None:
        self._recorder.decided(commands)
        for command in commands:
            match command:
                case Send(event):
                    told = msgspec.json.decode(msgspec.json.encode(event))
                    for answer in self._phone.receive(told, round(now * RATE)):
                        self._answer(answer, now)
                case AskModel(response_id):
                    echo = self.scenario.echo
                    said = (
                        []
                        if not self.answers
                        else reply(echo.reference if echo is not None else None)
                    )
                    self._due += [(now + at, FromModel(response_id, out)) for at, out in said]
                case AbortModel(response_id):
                    self._due = [each for each in self._due if each[1].response_id != response_id]
                case _:
                    pass
