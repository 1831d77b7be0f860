"""Sound on its way to and from devices of every rate and number of channels, without any device."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from agent.audio import RATE, Samples, samples_in
from client.sound.device_sound import AHEAD_SAMPLES, Edges, Form, FromDevice, ToDevice
from client.sound.opening import forms

FORMS = [
    *(Form(24_000, 1), Form(48_000, 1), Form(48_000, 2), Form(44_100, 2), Form(44_100, 1)),
    *(Form(16_000, 4), Form(16_000, 1), Form(8_000, 1), Form(96_000, 8), Form(11_025, 3)),
]
FRAME = samples_in(20)


def hear(form: Form, mono: Samples) -> tuple[Samples, FromDevice]:
    """What a program reads of sound that comes in blocks, the same in each channel."""
    device, pieces = FromDevice(form), list[bytes]()
    for at in range(0, len(mono), form.block):
        device.arrived(np.repeat(mono[at : at + form.block], form.channels))
        pieces.append(device.read())
    return np.frombuffer(b"".join(pieces), np.int16), device


def play(form: Form, mono: Samples) -> Samples:
    """What a device gets, frame by frame, of sound that is written as there is room."""
    device, blocks, written = ToDevice(form), list[Samples](), 0
    while written < len(mono):
        while device.room >= FRAME and written < len(mono):
            device.write(mono[written : written + FRAME])
            written += FRAME
        block = np.zeros(form.block * form.channels, np.int16)
        device.fill(block)
        blocks.append(block)
        assert device.waiting_samples <= AHEAD_SAMPLES + samples_in(60)
    return np.concatenate(blocks).reshape(-1, form.channels)


def tone(rate: int, length: int) -> Samples:
    return (8_000 * np.sin(2 * np.pi * 440 * np.arange(length) / rate)).astype(np.int16)


def purity_db(sound: Samples, rate: int) -> float:
    """How much louder 440 Hz is than all else."""
    at = 2 * np.pi * 440 * np.arange(len(sound)) / rate
    waves = np.stack([np.sin(at), np.cos(at)], axis=1)
    fit = waves @ np.linalg.lstsq(waves, sound.astype(float))[0]
    return 20 * float(np.log10(np.std(fit) / np.std(sound - fit)))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_microphone_is_heard_at_24_khz_without_drift_or_clicks(form: Form):
    said = tone(form.rate, form.block * 500)
    heard, device = hear(form, said)
    assert abs(len(heard) + device.held_samples - len(said) * RATE / form.rate) <= 1
    assert device.held_samples < samples_in(40)
    assert purity_db(heard[RATE // 10 :], RATE) > 60


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_loudspeaker_gets_its_own_rate_in_each_channel_without_drift_or_clicks(form: Form):
    played = play(form, tone(RATE, FRAME * 500))
    assert (played == played[:, :1]).all()
    assert purity_db(played[form.rate // 10 : -form.rate // 10, 0], form.rate) > 60


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_no_sample_moves(form: Form):
    """A click in the tenth second is at its place, on the way out and on the way back in."""
    at, size = 10 * RATE + 123, 11 * RATE
    click = np.zeros(size, np.int16)
    click[at - 12 : at + 13] = np.hanning(25) * 20_000
    played = play(form, click)[:, 0]
    assert np.argmax(played) == pytest.approx(at * form.rate / RATE, abs=2)
    heard, _ = hear(form, played)
    assert np.argmax(heard) == pytest.approx(at, abs=3)


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(FORMS), st.lists(st.sampled_from("wfp"), min_size=1, max_size=60))
def test_the_position_of_playout_is_known_to_the_sample(form: Form, steps: list[str]):
    device, written, handed_over, told = ToDevice(form), 0, 0, 0
    for step in steps:
        if step == "w" and device.room >= FRAME:
            before = device.waiting_samples
            device.write(np.full(FRAME, 1_000, np.int16))
            assert device.waiting_samples - before == pytest.approx(FRAME, abs=2)
            written += FRAME
        elif step == "f":
            waiting = device.waiting_samples
            block = np.zeros(form.block * form.channels, np.int16)
            ready = device.fill(block)
            handed_over += form.block
            fell = waiting - device.waiting_samples
            assert not ready or fell == pytest.approx(FRAME, abs=2)
        elif step == "p":
            told += len(device.played())
            assert told + device.held_samples == pytest.approx(
                handed_over * RATE / form.rate, abs=2
            )
    assert device.waiting_samples <= written + 1


def test_the_last_samples_are_played_too():
    form = Form(44_100, 2)
    device = ToDevice(form)
    device.write(np.full(FRAME, 1_000, np.int16))
    device.finish()
    assert device.waiting_samples == FRAME
    block = np.zeros(form.block * 2, np.int16)
    assert device.fill(block)
    assert np.mean(block[-200:-20]) == pytest.approx(1_000, abs=50)


def test_channels_that_differ_are_averaged():
    device = FromDevice(Form(RATE, 4))
    device.arrived(np.array([100, 200, 300, 404, -100, -200, -300, -404], np.int16))
    assert np.frombuffer(device.read(), np.int16).tolist() == [251, -251]


@pytest.mark.parametrize(
    ("own_rate", "channels", "only"),
    [
        (44_100, 2, Form(24_000, 1)),
        (44_100, 2, Form(44_100, 2)),
        (48_000, 8, Form(48_000, 8)),
        (16_000, 4, Form(16_000, 4)),
        (8_000, 1, Form(8_000, 1)),
        (22_050, 2, Form(22_050, 1)),
        (44_100, 2, Form(192_000, 2)),
    ],
)
def test_every_device_is_tried_in_the_form_it_takes(own_rate: int, channels: int, only: Form):
    tried = list(forms(own_rate, channels))
    assert tried[0] == Form(RATE, 1)
    assert only in tried
    assert len(tried) == len(set(tried))
    assert all(form.channels <= channels for form in tried)
    # A device's own form is among the first three rates.
    assert tried.index(Form(own_rate, channels)) < 9


@given(st.lists(st.tuples(st.integers(480, 960), st.floats(0, 1)), max_size=20))
def test_a_ring_that_runs_dry_does_not_click(calls: list[tuple[int, float]]):
    edges, pieces = Edges(240), [np.zeros(1, np.int16)]
    # Playing begins after silence, which the jitter buffer fades in.
    edges.shape(np.zeros(480, np.int16), 0)
    for size, share in calls:
        out = np.full(size, 12000, np.int16)
        edges.shape(out, round(size * share) if share < 0.5 else size)
        pieces.append(out)
    assert np.abs(np.diff(np.concatenate(pieces).astype(int))).max(initial=0) <= 12000 / 200 + 60
