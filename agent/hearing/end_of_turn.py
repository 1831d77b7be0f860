"""Waiting for the end of a turn: the limits that hold now, after what was said."""

from dataclasses import replace

from agent import limits
from agent.audio import RATE, SAMPLE_BYTES, milliseconds, samples_in
from agent.hearing import endpointing
from agent.hearing.endpointing import Limits
from agent.hearing.prosody import LOOKED_AT_S, ending
from agent.hearing.verdict import Pausing, longest_wait_ms, silence_wanted_ms
from agent.realtime.config import SemanticVad, ServerVad, TurnDetection

_PAUSE_MS = 160
_SOON_MS = 2_000
_LOOKED_AT_BYTES = int(LOOKED_AT_S * RATE) * SAMPLE_BYTES


def _limits(detection: TurnDetection, early_start_ms: int, longest_ms: int) -> Limits:
    match detection:
        case ServerVad(threshold=threshold, prefix_padding_ms=padding_ms):
            silence_ms = detection.silence_duration_ms
            pause_ms = early_start_ms or silence_ms
        case SemanticVad(eagerness=eagerness):
            threshold, padding_ms = 0.5, 300
            silence_ms, pause_ms = longest_wait_ms(eagerness), early_start_ms or _PAUSE_MS
    longest_ms = min(longest_ms, limits.TURN_S * 1_000)
    return endpointing.limits(threshold, padding_ms, pause_ms, silence_ms, longest_ms)


class Waiting:
    """Waits for the ends of one speaker's turns."""

    def __init__(self, detection: TurnDetection, early_start_ms: int, longest_ms: int):
        self.detection = detection
        self._asked = _limits(detection, early_start_ms, longest_ms)
        self._pausing = Pausing()
        self.early = early_start_ms > 0 and detection.create_response
        """Whether a reply is prepared in a pause."""
        self.limits = self._asked
        self._silent_since: int | None = None

    def reset(self) -> None:
        """What was said counts no more."""
        self.limits = self._asked

    def start(self, at: int) -> None:
        """A turn begins at a sample; one so soon after another shows that it was only a pause."""
        self._pausing = self._pausing.new_turn()
        if self._silent_since is not None:
            silence_ms = milliseconds(at - self._silent_since)
            if silence_ms < _SOON_MS:
                self.go_on(silence_ms)
        self._silent_since = None

    def end(self, at: int) -> None:
        """A turn is over, as was told at a sample."""
        self._silent_since = at - self.limits.silence
        self.limits = self._asked

    def pause(self, pcm: bytes) -> None:
        """The speaker has paused after saying this: mono PCM16 at 24 kHz, the pause included."""
        if isinstance(self.detection, SemanticVad):
            end = ending(pcm[-_LOOKED_AT_BYTES:])
            wanted_ms = silence_wanted_ms(end, self._pausing, self.detection.eagerness)
            self.limits = replace(self._asked, silence=samples_in(wanted_ms))

    def go_on(self, silence_ms: int) -> None:
        """The speaker went on after all."""
        self._pausing = self._pausing.resumed(silence_ms)
        self.limits = self._asked
