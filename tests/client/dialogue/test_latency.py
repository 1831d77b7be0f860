"""The latency that the terminal shows, on a clock of the test's own."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from hypothesis import given, strategies as st

from agent.audio import samples_in
from client.dialogue import events as wire
from client.dialogue.call import Call
from client.dialogue.connection import Received
from client.dialogue.latency import Latency, SentSound, Turn
from client.sound.clip import FRAME_S, FRAME_SAMPLES
from client.terminal.lines import Terminal
from tests.client.dialogue.test_client_rules import RULES


class Talk:
    """A call in which the microphone sends 20 ms after 20 ms."""

    def __init__(self, delay_ms: int = 60) -> None:
        self.now = 1000.0
        self.sent = SentSound()
        self.call = Call(
            cast(Any, SimpleNamespace(received=Received())),
            cast(Terminal, None),
            lambda: self.now,
            lambda: self.now - 0.1,
            lambda: samples_in(delay_ms),
            duck_db=12.0,
            said_at=self.sent.caught_at,
        )

    def wait(self, duration_ms: int) -> None:
        for _ in range(0, duration_ms, 20):
            self.now += FRAME_S
            self.sent.add(self.now, FRAME_S)

    def take(self, kind: str, **fields: object) -> None:
        event = wire.decode(msgspec.json.encode({"type": kind, **fields}))
        assert event is not None
        asyncio.run(self.call.apply(event))

    def answered(
        self, *, sent_ms: int = 1600, first_audio_after_ms: int = 300, **marks: int | None
    ) -> Latency:
        """The turn ends when so much was sent, and sound comes so long after that."""
        self.wait(sent_ms)
        self.take("input_audio_buffer.committed", item_id="said")
        self.wait(first_audio_after_ms)
        self.take("x_mimo.marks", requested_ms=160, first_sound_ms=700, **marks)
        pcm = np.full(samples_in(1000), 1000, "<i2").tobytes()
        self.take("response.output_audio.delta", response_id="r", item_id="answer", delta=pcm)
        self.call.pull(np.zeros(FRAME_SAMPLES, np.int16))
        turn = self.call.floor.turn
        assert turn is not None
        latency = turn.latency()
        assert latency is not None
        return latency


@pytest.mark.parametrize("case", RULES["latency"])
def test_latency_counts_from_where_the_server_heard_the_speech_end_up_to_the_ear(
    case: dict[str, int],
):
    asked = {name: case[name] for name in ("sent_ms", "speech_end_ms", "first_audio_after_ms")}
    latency = Talk(case["delay_ms"]).answered(**asked)
    assert latency.reply_ms == 540
    assert {name: getattr(latency, name) for name in case if hasattr(latency, name)} == {
        name: case[name]
        for name in ("voice_to_voice_ms", "endpointing_ms", "model_ms", "playout_ms")
    }


def test_a_reply_that_was_asked_for_in_a_pause_tells_how_long_it_took_as_a_whole():
    latency = Talk().answered(speech_end_ms=1200)
    assert latency.parts == {"endpointing": "400", "model": "300 of 540", "playout": "60"}


def test_without_that_word_the_client_s_own_ear_has_to_do():
    assert Talk().answered(speech_end_ms=None).endpointing_ms == 100
    assert Talk().answered().endpointing_ms == 100


def test_a_reply_that_was_asked_for_after_the_turn_is_no_part_of_itself():
    latency = Latency(1900, 500, 1077, 323, reply_ms=1075)
    assert latency.parts == {"endpointing": "500", "model": "1077", "playout": "323"}


TIMES = st.floats(0, 20)


@given(st.floats(0, 1e6), TIMES, TIMES, TIMES, st.none() | st.integers(0, 30_000))
def test_the_parts_add_up_to_the_whole_and_no_wait_is_longer_than_the_reply(
    ended_at: float, decided_s: float, model_s: float, playout_s: float, reply_ms: int | None
):
    committed_at = ended_at + decided_s
    first_audio_at = committed_at + model_s
    turn = Turn(
        ended_at, committed_at, "item", first_audio_at, first_audio_at + playout_s, reply_ms
    )
    latency = turn.latency()
    assert latency is not None
    parts = (latency.endpointing_ms, latency.model_ms, latency.playout_ms)
    assert sum(parts) == latency.voice_to_voice_ms
    assert min(parts) >= 0
    waited, _, whole = latency.parts["model"].partition(" of ")
    assert not whole or int(waited) < int(whole)
