"""The simulated caller's mouth and ears, without input or output.

It mixes the microphone's frames from a scenario and plays what the agent says through a
jitter buffer. Time is one count of samples for both: frame `n` of the microphone is spoken
while frame `n` of the loudspeaker plays, and is sent at its end.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from agent.audio import SAMPLE_BYTES, Samples, milliseconds, rounded, samples_in
from client.dialogue.jitter import JitterBuffer
from client.evaluation.recordings import scaled
from client.evaluation.scenarios import Scenario, Span
from client.sound.clip import FRAME_SAMPLES

Event = dict[str, Any]
"""An event of either side, as JSON."""

DUCKED = 0.25
"""What is left of the agent's volume while the server wonders."""

ANSWER_TIMEOUT = samples_in(6_000)
"""Six seconds without an answer are none; longer only delays what fails."""
REPORT = samples_in(200)
"""As often as the page says what was played."""
QUIET = samples_in(500)
"""So long after its last sound an answer is over, and a cut one would still have been heard."""
AFTER_INTERRUPTION = samples_in(1_500)
"""Who isn't yielded to by then has been talked through."""
AFTER_ANSWER = samples_in(100)
"""What the answer's first sound is followed by is no latency any more."""
LONGEST = samples_in(40_000)
"""An answer that never ends must not keep the others waiting."""


@dataclass(frozen=True, slots=True)
class Happened:
    """A server event, its sound left out, at the sample during which it came."""

    at: int
    event: Event


@dataclass(slots=True)
class Run:
    """A stretch of one item that played without a gap, at one volume.

    `start` counts samples of the call.
    """

    item_id: str
    start: int
    count: int
    gain: float = 1.0

    @property
    def end(self) -> int:
        return self.start + self.count


@dataclass(slots=True)
class Take:
    """What came of one scenario."""

    scenario: Scenario
    round_trip_ms: float = 0.0
    events: list[Happened] = field(default_factory=list[Happened])
    runs: list[Run] = field(default_factory=list[Run])
    cut: dict[str, int] = field(default_factory=dict[str, int])
    """Items that were not heard to their end, and when that was decided."""
    holds: list[Span] = field(default_factory=list[Span])
    """When the agent's voice was held back, at the server's word."""
    overlay_at: int | None = None
    began_s: float = 0.0
    """On the system's monotonic clock."""
    said: bytearray = field(default_factory=bytearray)
    heard: bytearray = field(default_factory=bytearray)
    problem: str | None = None


class SimulatedPhone:
    """One call while it lasts; `take` fills up."""

    def __init__(self, take: Take, reports: bool = False):
        self.take = take
        self._reports = reports
        self._reported_at = 0
        self._jitter = JitterBuffer()
        self._items: dict[str, None] = {}
        self._responding = False
        self._gain = 1.0
        self._held = False

    def receive(self, event: Event, now: int) -> list[Event]:
        """Take an event of the server, and return what has to be said to it."""
        self.take.events.append(Happened(now, without_sound(event)))
        match event:
            case {"type": "input_audio_buffer.speech_started"}:
                return self._fall_silent(now)
            case {"type": "response.created"}:
                self._responding = True
            case {"type": "response.output_audio.delta", "item_id": item_id, "delta": delta}:
                self._hear(item_id, msgspec.convert(delta, bytes, strict=False))
            case {"type": "response.output_audio.done", "item_id": item_id}:
                self._jitter.complete(item_id)
            case {"type": "response.done", "response": response}:
                self._responding = False
                if response["status"] == "cancelled":
                    return self._fall_silent(now)
                if response["status"] == "failed":
                    self.take.problem = str(response["status_details"])
            case {"type": "x_mimo.duck"}:
                self._gain = DUCKED
            case {"type": "x_mimo.hold"}:
                self._held = True
            case {"type": "x_mimo.restore"}:
                self._gain, self._held = 1.0, False
            case {"type": "error", "error": error}:
                self.take.problem = str(error["message"])
            case _:
                pass
        return []

    def _hear(self, item_id: str, pcm: bytes) -> None:
        if item_id not in self.take.cut:
            self._items[item_id] = None
            self._jitter.add(item_id, np.frombuffer(pcm, "<i2"))

    def _fall_silent(self, now: int) -> list[Event]:
        """Play no more of what the agent says, and tell how much of it was heard."""
        unheard = self._jitter.flush()
        if self._held:
            # It is silent already: there is nothing to fade out.
            self._jitter.pull(np.zeros(FRAME_SAMPLES, np.int16))
        self._gain, self._held = 1.0, False
        self.take.cut |= {heard.item_id: now for heard in unheard}
        return [
            {
                "type": "conversation.item.truncate",
                "item_id": heard.item_id,
                "content_index": 0,
                "audio_end_ms": milliseconds(heard.samples),
            }
            for heard in unheard
        ]

    def frame(self, now: int) -> bytes:
        """Play the frame that begins now and return the one that is spoken meanwhile."""
        self._play(now)
        spoken = self._spoken(now).tobytes()
        self.take.said += spoken
        return spoken

    def _play(self, now: int) -> None:
        latest = list(self._items)[-2:]
        before = [self._jitter.played(item_id) for item_id in latest]
        frame = np.zeros(FRAME_SAMPLES, np.int16)
        if self._held:
            self._note_held(now)
        else:
            self._jitter.pull(frame)
        self.take.heard += scaled(frame, self._gain).tobytes()
        at = now
        for item_id, played in zip(latest, before, strict=True):
            if count := self._jitter.played(item_id) - played:
                self._note_played(item_id, at, count)
                at += count
        overlay = self.take.scenario.overlay
        if overlay is not None and self.take.overlay_at is None and self.take.runs:
            self.take.overlay_at = now + samples_in(overlay.after_ms)

    def _note_played(self, item_id: str, at: int, count: int) -> None:
        runs = self.take.runs
        last = runs[-1] if runs else None
        if last and (last.item_id, last.end, last.gain) == (item_id, at, self._gain):
            last.count += count
        else:
            runs.append(Run(item_id, at, count, self._gain))

    def _note_held(self, now: int) -> None:
        holds = self.take.holds
        start = holds.pop().start if holds and holds[-1].end == now else now
        holds.append(Span(start, now + FRAME_SAMPLES))

    def report(self, now: int) -> list[Event]:
        """Tell, every 200 ms, how much was played until now of what plays."""
        runs = self.take.runs
        if not self._reports or not runs or now - self._reported_at < REPORT:
            return []
        if runs[-1].end != now:
            return []
        self._reported_at = now
        item_id = runs[-1].item_id
        played = self._jitter.played(item_id)
        return [{"type": "x_mimo.playout", "item_id": item_id, "audio_end_samples": played}]

    def _spoken(self, now: int) -> Samples:
        """Mix the microphone's frame."""
        mixed = np.zeros(FRAME_SAMPLES, np.int32)
        for start, sound in self._placed():
            first, last = max(now, start), min(now + FRAME_SAMPLES, start + len(sound))
            if first < last:
                mixed[first - now : last - now] += sound[first - start : last - start]
        return rounded(mixed)

    def _placed(self) -> Iterator[tuple[int, Samples]]:
        """What the microphone gets, and when it begins: the caller's words and the room's echo."""
        take, scenario = self.take, self.take.scenario
        yield 0, scenario.opening
        if scenario.overlay is not None and take.overlay_at is not None:
            yield take.overlay_at, scenario.overlay.sound
        if scenario.echo is None:
            return
        # The room returns the first answer, as far and as loud as it was played.
        played = 0
        for run in take.runs:
            if run.item_id == take.runs[0].item_id:
                yield run.start, scaled(scenario.echo.echo[played : played + run.count], run.gain)
                played += run.count

    def is_over(self, now: int) -> bool:
        """Whether all was seen that the scenario is there to show."""
        take, scenario = self.take, self.take.scenario
        if take.problem is not None or now > LONGEST:
            return True
        if scenario.overlay is None and scenario.echo is None:
            answer = next((run for run in take.runs if run.start >= scenario.speech_end), None)
            limit = ANSWER_TIMEOUT if answer is None else AFTER_ANSWER
            return now > max(scenario.speech_end, answer.start if answer else 0) + limit
        if not take.runs:
            return now > scenario.speech_end + ANSWER_TIMEOUT
        return self._is_settled(now)

    def _is_settled(self, now: int) -> bool:
        """The answer was cut, or is complete, or withstood an interruption for long enough."""
        take, overlay = self.take, self.take.scenario.overlay
        answer_id, quiet = take.runs[0].item_id, now - take.runs[-1].end
        if answer_id in take.cut:
            return now > take.cut[answer_id] + QUIET
        if take.scenario.kind == "interruption" and overlay and take.overlay_at is not None:
            ended = take.overlay_at + len(overlay.sound)
            if now > ended + AFTER_INTERRUPTION:
                return True
        return not self._responding and self._jitter.idle and quiet > QUIET


def without_sound(event: Event) -> Event:
    """The event with its sound replaced by the length of it in samples."""
    for name in ("audio", "delta"):
        match event.get(name), event["type"]:
            case bytes() as pcm, _:
                return {**event, name: len(pcm) // SAMPLE_BYTES}
            case str(text), "response.output_audio.delta":
                return {**event, name: (len(text) * 3 // 4 - text.count("=")) // SAMPLE_BYTES}
            case _:
                pass
    return event
