"""The recording of a conversation: both sides where they were in time, and never more than fits."""

import tracemalloc
import wave
from pathlib import Path

import numpy as np
import pytest

from agent.audio import RATE, Samples
from client import recording
from client.recording import Recording


def saved(kept: Recording, file: Path) -> Samples:
    kept.save(file)
    with wave.open(str(file)) as wav:
        assert (wav.getnchannels(), wav.getframerate(), wav.getsampwidth()) == (2, RATE, 2)
        return np.frombuffer(wav.readframes(wav.getnframes()), np.int16).reshape(-1, 2)


def of(value: int, samples: int) -> Samples:
    return np.full(samples, value, np.int16)


def test_both_sides_are_where_they_were_said(tmp_path: Path):
    kept = Recording(began=100.0)
    for number in range(150):
        # Chunks of 20 ms come up to 60 ms late; none of them is moved for that.
        kept.add("user", of(number + 1, 480), at=100.0 + 0.02 * number + 0.06 * (number % 2))
    kept.add("agent", of(-7, 2 * RATE), at=101.5)
    sides = saved(kept, tmp_path / "talk.wav")
    assert len(sides) == 4 * RATE
    assert (sides[: 3 * RATE, 0] == np.repeat(np.arange(1, 151), 480)).all()
    agent = np.flatnonzero(sides[:, 1])
    assert (agent[0], agent[-1] + 1) == (1.5 * RATE, 3.5 * RATE)


def test_a_gap_stays_a_gap(tmp_path: Path):
    kept = Recording(began=0.0)
    kept.add("user", of(1, RATE), at=0.0)
    kept.add("user", of(2, RATE), at=4.0)
    sides = saved(kept, tmp_path / "talk.wav")
    assert np.flatnonzero(sides[:, 0] == 2).tolist() == list(range(4 * RATE, 5 * RATE))


def test_only_the_newest_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recording, "KEPT_S", 3)
    kept = Recording(began=0.0)
    for second in range(10):
        kept.add("user", of(second, RATE), at=float(second))
        kept.add("agent", of(-second, RATE), at=float(second))
    kept.add("agent", of(99, RATE), at=2.0)
    sides = saved(kept, tmp_path / "talk.wav")
    assert (sides == np.repeat([[7, -7], [8, -8], [9, -9]], RATE, axis=0)).all()


def test_a_night_of_silence_takes_no_more_memory_than_what_is_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recording, "KEPT_S", 3)
    kept = Recording(began=0.0)
    tracemalloc.start()
    kept.add("user", of(1, RATE), at=600.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * RATE * 4
