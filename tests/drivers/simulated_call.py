"""A call of the simulated caller with the core, on virtual time: exact, and over at once.

The caller's mouth and ears, the real voice activity detector and a session meet without a
socket; the model is a script. Only the network and the clock are left out.
"""

import msgspec
import numpy as np

from agent.audio import RATE, samples_in
from agent.commands import Command
from agent.policy import Patience, Policy
from agent.realtime import client_events as protocol
from agent.realtime.config import SemanticVad, TurnDetection
from agent.realtime.server_events import ServerEvent
from agent.trace.inputs import Input, Judged
from agent.trace.lines import Line
from agent.trace.recorder import Recorder, Setup
from client.evaluation.scenarios import Scenario
from client.evaluation.simulated_phone import Event, SimulatedPhone, Take
from client.sound.clip import FRAME_SAMPLES
from server.vad import Silero
from tests.drivers.virtual_call import Call, own_client, reply

TIMING = Policy(Patience(3.0, 3.0), early_start_ms=160, longest_turn_ms=60_000)
HUM = (8_000 * np.sin(2 * np.pi * 200 * np.arange(samples_in(4_800)) / RATE)).astype("<i2")


class SimulatedCall(Call):
    """Holds one call; `hold` and `lines` tell of it afterwards.

    Args:
        answers: Whether the model says anything: a hum, or what is to echo.
    """

    def __init__(
        self,
        scenario: Scenario,
        detection: TurnDetection | None = None,
        ducks: bool = True,
        answers: bool = True,
    ):
        self.lines: list[Line] = []
        self._take = Take(scenario)
        self._phone = SimulatedPhone(self._take, reports=ducks)
        self._answers: list[Event] = []
        self._recorder = Recorder(self.lines.append, super().new_id)
        config = own_client(detection or SemanticVad(), ducks)
        self._recorder.began(Setup(config, TIMING), 0.0)
        voice = HUM if scenario.echo is None else scenario.echo.reference
        said = reply(voice.tobytes()) if answers else []
        super().__init__(config, TIMING, now=0.0, replies=lambda _: said, words=())

    def new_id(self, kind: str) -> str:
        return self._recorder.new_id(kind)

    def hold(self) -> Take:
        vad, now = Silero(), 0
        self._answer()
        while not self._phone.is_over(now):
            self._answers += self._phone.report(now)
            self._answer()
            spoken = self._phone.frame(now)
            now += FRAME_SAMPLES
            self.wait(now / RATE - self.now)
            self.take(protocol.InputAudioAppend(audio=spoken))
            for probability in vad.probabilities(spoken):
                self.take(Judged(probability))
        self._recorder.ended(self.now)
        return self._take

    def take(self, taken: Input) -> None:
        self._recorder.took(taken, self.now)
        super().take(taken)
        self._answer()

    def _answer(self) -> None:
        """The phone says what it has to about the latest events."""
        while self._answers:
            self.receive(msgspec.json.encode(self._answers.pop(0)))

    def _perform(self, commands: list[Command]) -> None:
        self._recorder.decided(commands)
        super()._perform(commands)

    def _send(self, event: ServerEvent) -> None:
        super()._send(event)
        told = msgspec.json.decode(self.frames[-1])
        self._answers += self._phone.receive(told, round(self.now * RATE))
