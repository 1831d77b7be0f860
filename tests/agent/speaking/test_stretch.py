"""Speech at another speed: as long as it should be, at the same pitch, and never when not asked."""

from base64 import b64decode

import numpy as np
import pytest

from agent.audio import RATE
from agent.model.output import Ended, Sound, Text
from agent.speaking.stretch import Stretcher
from tests.drivers.scripted import Json, Scripted, sound

SPEEDS = [0.25, 0.8, 1.1, 1.5]


def tone(duration_s: float, pitch_hz: float) -> bytes:
    time = np.arange(int(duration_s * RATE)) / RATE
    return (8_000 * np.sin(2 * np.pi * pitch_hz * time)).astype("<i2").tobytes()


def stretched(pcm: bytes, speed: float, chunk: int) -> bytes:
    stretcher = Stretcher(speed)
    parts = [stretcher.stretch(pcm[i : i + chunk]) for i in range(0, len(pcm), chunk)]
    return b"".join(parts) + stretcher.finish()


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("duration_s", [0.0, 0.01, 0.3, 2.0])
def test_it_lasts_as_long_as_the_speed_says(speed: float, duration_s: float):
    found = stretched(tone(duration_s, 200.0), speed, 23_040)
    assert len(found) // 2 == round(int(duration_s * RATE) / speed)


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("pitch_hz", [90.0, 233.0])
def test_the_pitch_and_the_loudness_stay(speed: float, pitch_hz: float):
    found = np.frombuffer(stretched(tone(2.0, pitch_hz), speed, 9_600), "<i2").astype(float)
    middle = found[RATE // 10 : -RATE // 10]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    loudest_hz = spectrum.argmax() * RATE / len(middle)
    assert abs(loudest_hz - pitch_hz) < 3
    assert abs(np.sqrt(np.mean(middle**2)) / (8_000 / np.sqrt(2)) - 1) < 0.05


def test_the_cut_of_the_stream_changes_nothing():
    pcm = tone(0.5, 150.0)
    assert stretched(pcm, 1.3, 2) == stretched(pcm, 1.3, len(pcm))


def test_what_the_client_hears_is_what_is_played_and_cut():
    scripted = Scripted()
    session: Json = {"type": "realtime", "audio": {"output": {"speed": 0.5}}}
    scripted.send({"type": "session.update", "session": session})
    scripted.send({"type": "response.create"})
    scripted.model(sound(1_000))
    scripted.model(Ended())
    deltas = [event for event in scripted.log if "delta" in event.get("server", {})]
    sizes = [int(event["server"]["delta"].removesuffix(" bytes")) for event in deltas]
    assert sum(sizes) == 2 * RATE * 2
    cut: Json = {"type": "conversation.item.truncate", "item_id": "item_1", "content_index": 0}
    (truncated,) = scripted.send(cut | {"audio_end_ms": 1_500})
    assert truncated["audio_end_ms"] == 1_500


def test_at_the_usual_speed_sound_is_left_alone():
    scripted = Scripted()
    scripted.send({"type": "response.create"})
    pcm = np.random.default_rng(1).integers(-9, 9, 999).astype("<i2").tobytes()
    scripted.model(Sound(pcm))
    assert b64decode(scripted.server[-1]["delta"]) == pcm


def test_what_was_held_back_is_said_before_a_call():
    scripted = Scripted()
    tools: list[Json] = [{"type": "function", "name": "look"}]
    audio: Json = {"output": {"speed": 0.5}}
    session: Json = {"type": "realtime", "tools": tools, "audio": audio}
    scripted.send({"type": "session.update", "session": session})
    scripted.send({"type": "response.create"})
    scripted.model(sound(1_000))
    scripted.model(Text('<tool_call>{"name": "look"}</tool_call>'))
    deltas = [each["delta"] for each in scripted.server if each["type"].endswith("_audio.delta")]
    assert sum(len(b64decode(delta)) for delta in deltas) == 2 * RATE * 2
