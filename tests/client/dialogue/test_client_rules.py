"""The rules that terminal and page share: the terminal's side of the golden cases."""

import asyncio
import json
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from agent.audio import RATE, Samples, samples_in
from client.dialogue import events as wire
from client.dialogue.backoff import backoff
from client.dialogue.call import Call
from client.dialogue.connection import Received
from client.dialogue.ducking import DUCK_DB
from client.dialogue.jitter import JitterBuffer
from client.terminal.lines import Terminal
from client.terminal.push_to_talk import PushToTalk

RULES = json.loads(
    (Path(__file__).parents[2] / "golden" / "client_rules.json").read_text(encoding="utf-8")
)
FRAME_MS = 20
LOUD = 10000

Orders = list[list[Any]]
"""Each with its time in milliseconds first, which is that of a frame."""


def a_call(**options: Any) -> Call:
    """A call without a server."""
    connection = cast(Any, SimpleNamespace(received=Received()))
    nothing = cast(Terminal, None)
    return Call(connection, nothing, lambda: 0.0, lambda: 0.0, int, duck_db=DUCK_DB, **options)


class Chance(Random):
    """Always the same."""

    def __init__(self, value: float):
        super().__init__(0)
        self._value = value

    def random(self) -> float:
        return self._value


@pytest.mark.parametrize("case", RULES["backoff"])
def test_each_attempt_to_come_back_waits_longer_than_the_one_before(case: dict[str, Any]):
    waits_s = backoff(Chance(case["chance"]))
    assert [1000 * next(waits_s) for _ in case["waits_ms"]] == case["waits_ms"]


def loud(duration_ms: float) -> Samples:
    return np.full(samples_in(round(duration_ms)), LOUD, np.int16)


def test_sound_fades_in_and_out_over_the_same_time():
    jitter, out = JitterBuffer(), np.zeros(samples_in(500), np.int16)
    jitter.add("one", loud(400))
    jitter.pull(out)
    rises = np.flatnonzero(out == LOUD)[0]
    glides = np.flatnonzero(out)[-1] - np.flatnonzero(out == LOUD)[-1]
    assert [round(1000 * each / RATE) for each in (rises, glides)] == [RULES["fade_ms"]] * 2


@pytest.mark.parametrize("case", RULES["jitter"])
def test_sound_that_may_be_late_waits(case: dict[str, Any]):
    jitter, frame = JitterBuffer(), np.zeros(samples_in(FRAME_MS), np.int16)
    spans: list[list[int]] = []
    for now in range(0, 2000, FRAME_MS):
        for _, order, item_id, *duration_ms in (each for each in case["orders"] if each[0] == now):
            if order == "add":
                jitter.add(item_id, loud(*duration_ms))
            else:
                jitter.complete(item_id)
        if filled := jitter.pull(frame):
            start = spans.pop()[0] if spans and spans[-1][1] == now else now
            spans.append([start, now + filled * 1000 // RATE])
    assert spans == case["heard"]


@pytest.mark.parametrize("case", RULES["push_to_talk"])
def test_a_slip_of_the_finger_asks_nothing(case: dict[str, Any]):
    push, closing_s = PushToTalk(), case["held_ms"] / 1000
    push.press(0.0)
    push.tick(closing_s)
    push.press(closing_s)
    push.tick(closing_s + 1)
    assert (push.open, push.slipped) == (False, not case["asks"])


@pytest.mark.parametrize("case", RULES["resume"])
def test_what_was_received_before_the_connection_was_lost_is_played_once(case: dict[str, Any]):
    received = Received()

    def play(samples: int) -> int:
        return len(received.take("one", np.zeros(samples, np.int16)))

    play(case["received"])
    received.resume("one", case["audio_start_samples"])
    assert [play(samples) for samples in case["sent"]] == case["played"]


@pytest.mark.parametrize("case", RULES["ducking"])
def test_the_agent_lowers_its_voice_in_a_ramp(case: dict[str, Any]):
    async def run() -> Samples:
        call, sound = a_call(), np.zeros(samples_in(600), np.int16)
        await call.apply(wire.AudioDelta("resp", "one", loud(1000).tobytes()))
        orders = dict(case["orders"])
        kinds = {"duck": wire.Duck, "hold": wire.Hold, "restore": wire.Restore}
        for now in range(0, 600, FRAME_MS):
            if now in orders:
                await call.apply(kinds[orders[now]]())
            call.pull(sound[samples_in(now) : samples_in(now + FRAME_MS)])
        return sound

    sound = asyncio.run(run())
    for at_ms, loudness_db in case["loudness_db"]:
        loudness = sound[samples_in(at_ms) - 1] / LOUD
        expected = 0 if loudness_db is None else 10 ** (loudness_db / 20)
        assert loudness == pytest.approx(expected, abs=0.003), at_ms
