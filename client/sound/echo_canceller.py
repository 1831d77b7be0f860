"""Takes the agent's own voice, and noise, out of the microphone, and evens out its loudness.

The work is WebRTC's, from the package `pywebrtc-audio` (the extra `echo`). It needs what was
played and what was recorded side by side; the two devices run on clocks of their own, so what
was played waits here and is trimmed when it falls behind.
"""

import importlib
from typing import Any, Protocol, cast

import numpy as np

from agent.audio import RATE, Samples, milliseconds, samples_in

FRAME_SAMPLES = samples_in(10)
"""WebRTC works on frames of 10 ms."""

MOST_BEHIND_SAMPLES, KEPT_BEHIND_SAMPLES = samples_in(40), samples_in(20)
"""What was played may wait this long, and is trimmed to that: waiting longer, it would be
compared with an echo that has come before it."""

DELAY_STEP_MS = 10
"""Smaller changes are a device's doubt about its own figure, and the canceller isn't notified."""
STRONG = 2
"""Noise suppression by 18 dB; stronger than that hurts speech."""

MOST_GAIN_DB = 12.0
"""More would make the noise of the room as loud as a voice, less leave soft speakers soft."""


class Processor(Protocol):
    """The part of `pywebrtc_audio.AudioProcessor` that is used here."""

    stream_delay_ms: int

    def process(self, near: Samples, far: Samples) -> Samples: ...


def can_cancel() -> bool:
    """Whether the package for it is installed, and works."""
    return _package() is not None


def find_processor(*, gain: bool = True) -> Processor | None:
    """WebRTC's audio processing for 24 kHz; `None` if its package isn't installed."""
    if (package := _package()) is None:
        return None
    return cast(
        Processor,
        package.AudioProcessor(
            sample_rate=RATE,
            echo_cancellation=True,
            noise_suppression=True,
            ns_level=STRONG,
            auto_gain_control=gain,
            agc_max_gain_db=MOST_GAIN_DB,
        ),
    )


def _package() -> Any:
    try:
        return importlib.import_module("pywebrtc_audio")
    except ImportError:
        return None


class EchoCanceller:
    """Cleans the microphone's sound; all sound is mono at 24 kHz."""

    def __init__(self, processor: Processor):
        self._processor = processor
        self._near = np.zeros(0, np.int16)
        self._far = np.zeros(0, np.int16)

    def clean(self, recorded: bytes, played: Samples, delay_samples: int) -> bytes:
        """Clean what was recorded since the last call; up to 10 ms of it wait for the next.

        Args:
            recorded: Mono PCM16.
            played: What was handed to the loudspeaker since the last call.
            delay_samples: From handing a sample to the loudspeaker until its echo is recorded,
                as far as the devices say.
        """
        self._near = np.concatenate([self._near, np.frombuffer(recorded, np.int16)])
        self._far = np.concatenate([self._far, played])
        count = len(self._near) // FRAME_SAMPLES * FRAME_SAMPLES
        if not count:
            return b""
        near, self._near = self._near[:count], self._near[count:]
        far = self._take_far(count)
        self._correct(delay_samples - len(self._far))
        return self._processor.process(near, far).tobytes()

    def _take_far(self, count: int) -> Samples:
        far, self._far = self._far[:count], self._far[count:]
        if len(self._far) > MOST_BEHIND_SAMPLES:
            self._far = self._far[-KEPT_BEHIND_SAMPLES:]
        return far if len(far) == count else np.pad(far, (0, count - len(far)))

    def _correct(self, delay_samples: int) -> None:
        delay_ms = max(0, milliseconds(delay_samples))
        if abs(delay_ms - self._processor.stream_delay_ms) >= DELAY_STEP_MS:
            self._processor.stream_delay_ms = delay_ms
