"""Frames of a microphone as a detector and a level meter see them."""

from functools import cache
from random import Random

import numpy as np

from agent.audio import rounded
from agent.hearing.buffer import FRAME_SAMPLES


@cache
def frame(level_db: float, samples: int = FRAME_SAMPLES) -> bytes:
    """Noise of that power, in dB of full scale: mono PCM16 at 24 kHz."""
    sound = np.random.default_rng(0).normal(0, 2**15 * 10 ** (level_db / 20), samples)
    return rounded(sound).tobytes()


def probabilities(least: float, most: float, count: int, seed: int = 0) -> list[float]:
    """That these are speech, as an unsure detector has them."""
    chance = Random(seed)
    return [round(chance.uniform(least, most), 3) for _ in range(count)]
