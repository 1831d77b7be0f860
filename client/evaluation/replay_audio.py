"""What could be heard of a recorded session: the microphone, and the agent as it was played.

Nobody recorded a loudspeaker, so the agent's sound is played again by the caller's own rules: the
same jitter buffer, silent at `speech_started`, held and restored when the server says so.
"""

from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from agent.audio import RATE, SAMPLE_BYTES, samples_in
from agent.commands import Send
from agent.realtime import server_events as events
from agent.realtime.client_events import InputAudioAppend
from agent.realtime.codec import Decoder
from agent.realtime.config import AudioFormat, PcmFormat
from agent.trace.replay import Step
from client.evaluation.scenarios import Scenario
from client.evaluation.simulated_phone import Event, Happened, SimulatedPhone, Take
from client.sound.clip import FRAME_SAMPLES

GAP = samples_in(200)
"""Sound that comes later than this was not spoken without a gap: the client had been away."""
ROW = samples_in(30_000)
"""So much of a session is drawn in one row."""


class Microphone:
    """Decodes what was sent by the client's microphone."""

    def __init__(self) -> None:
        self._format: AudioFormat = PcmFormat()
        self._decoder = Decoder(self._format)

    def hear(self, step: Step) -> bytes:
        """The sound that came in a step, as mono PCM16 at 24 kHz; empty if it brought none."""
        for line in step.recorded:
            if line.source == "server" and b'"session.' in bytes(line.what)[:24]:
                session = msgspec.json.decode(line.what)["session"]
                found = msgspec.convert(session["audio"]["input"]["format"], AudioFormat)
                if found != self._format:
                    self._format, self._decoder = found, Decoder(found)
        if isinstance(step.taken, InputAudioAppend):
            return self._decoder.decode(step.taken.audio)
        return b""


@dataclass(slots=True)
class ReplayAudio:
    """Puts both sides of one session on one axis of samples; `take` plays it."""

    _said: bytearray = field(default_factory=bytearray)
    _events: list[tuple[int, Event]] = field(default_factory=list[tuple[int, Event]])
    _decoder: Decoder = field(default_factory=lambda: Decoder(PcmFormat()))

    def add(self, step: Step, pcm: bytes) -> None:
        """Take a step, and the sound of the microphone that came in it."""
        now = round(step.since_s * RATE)
        missing = now - (len(self._said) + len(pcm)) // SAMPLE_BYTES
        if pcm:
            self._said += bytes(missing * SAMPLE_BYTES if missing > GAP else 0) + pcm
        self._events += [
            (now, self._heard(each.event)) for each in step.commands if isinstance(each, Send)
        ]

    def _heard(self, event: events.ServerEvent) -> Event:
        shown: Event = msgspec.to_builtins(event)
        match event:
            case events.ResponseCreated(response=response):
                self._decoder = Decoder(response.audio.output.format)
            case events.AudioDelta(delta=delta):
                return {**shown, "delta": self._decoder.decode(delta)}
            case _:
                pass
        return shown

    def take(self, name: str) -> Take:
        """Play the session from its beginning to the last sound."""
        said = np.frombuffer(self._said, np.int16)
        take = Take(Scenario(name, "turn", said, len(said)))
        phone, waiting, now = SimulatedPhone(take), self._events[::-1], 0
        while now < len(said) or waiting or (take.runs and take.runs[-1].end == now):
            while waiting and waiting[-1][0] <= now:
                phone.receive(waiting.pop()[1], now)
            phone.frame(now)
            now += FRAME_SAMPLES
        return take


def rows(take: Take) -> list[Take]:
    """Cut a long session into parts of 30 s; a short one stays as it is."""
    length = len(take.said) // SAMPLE_BYTES
    if length <= ROW:
        return [take]
    parts: list[Take] = []
    begun: set[str] = set()
    for start in range(0, length, ROW):
        part = Take(replace(take.scenario, name=f"from {start // RATE} s"))
        place = slice(start * SAMPLE_BYTES, (start + ROW) * SAMPLE_BYTES)
        part.said = take.said[place].ljust(ROW * SAMPLE_BYTES, b"\0")
        part.heard = take.heard[place].ljust(ROW * SAMPLE_BYTES, b"\0")
        inside = range(start, start + ROW)
        part.events = [
            Happened(each.at - start, each.event) for each in take.events if each.at in inside
        ]
        for run in take.runs:
            if run.start in inside and run.item_id not in begun:
                begun.add(run.item_id)
                part.runs.append(replace(run, start=run.start - start))
        parts.append(part)
    return parts
