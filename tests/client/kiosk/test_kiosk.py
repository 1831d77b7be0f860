"""`mimo-live talk --kiosk`: a real server, a virtual sound card, and nobody to look after it."""

import base64
import os
import pty
import subprocess
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from select import select

import numpy as np
import pytest

from agent.audio import RATE, Samples, read_wav, samples_in
from client.kiosk.presence import Idle, Presence
from client.kiosk.self_test import LEAST_LIKENESS, likeness, sweep
from tests.drivers.model_client import DATA
from tests.drivers.processes import ROOT, command, start_server
from tests.drivers.virtual_audio import VirtualAudio, is_installed, virtual_audio
from tests.fakes import Reply, Request, stand_in

pytestmark = pytest.mark.realtime

with_sound = pytest.mark.skipif(not is_installed(), reason="pulseaudio is not installed")

CONFIG = """
[kiosk]
greeting = "Ask me anything"
idle_s = 1.0
countdown_s = 2.0
dead_s = {dead_s}
self_test = {self_test}
"""
WIPED = b"\x1b[3J"


class Screen:
    """The terminal of a kiosk."""

    def __init__(self, terminal: int):
        self._terminal = terminal
        self._shown = b""

    def until(self, words: bytes) -> bytes:
        """Read on until these words come; return what came before them."""
        while words not in self._shown:
            assert select([self._terminal], [], [], 30)[0], self._shown
            try:
                self._shown += os.read(self._terminal, 65536)
            except OSError as error:
                raise AssertionError(f"the program ended after {self._shown!r}") from error
        before, _, self._shown = self._shown.partition(words)
        return before


@contextmanager
def kiosk(card: VirtualAudio, url: str) -> Generator[tuple[Screen, "subprocess.Popen[bytes]"]]:
    parent, child = pty.openpty()
    environment = card.environment | {"TERM": "xterm", "NO_COLOR": "1"}
    words = command("talk", "--kiosk", "--url", url)
    with subprocess.Popen(
        words, cwd=ROOT, env=environment, stdin=child, stdout=child, stderr=child
    ) as process:
        os.close(child)
        try:
            yield Screen(parent), process
        finally:
            process.terminate()
            # A terminal that nobody reads would keep the program from ending.
            with suppress(OSError):
                while os.read(parent, 65536):
                    pass
            os.close(parent)
            process.wait(20)


def config(folder: Path, *, self_test: str = "false", dead_s: float = 60.0) -> tuple[str, str]:
    file = folder / "kiosk.toml"
    file.write_text(CONFIG.format(self_test=self_test, dead_s=dead_s))
    return "--config", str(file)


def spoken_s(request: Request) -> list[float]:
    """How long each of the clips is that the model was given."""
    parts = [
        part["audio_url"]["url"].partition(",")[2]
        for message in request.body["messages"]
        if isinstance(message["content"], list)
        for part in message["content"]
        if part["type"] == "audio_url"
    ]
    return [len(read_wav(base64.b64decode(part))) / 2 / RATE for part in parts]


@with_sound
def test_the_second_visitor_finds_nothing_of_the_first(tmp_path: Path):
    with (
        virtual_audio() as card,
        stand_in(first_chunk_ms=100, rtf=0.2) as model,
        start_server(model.url.removesuffix("/v1"), *config(tmp_path)) as url,
        kiosk(card, url) as (screen, _),
    ):
        screen.until(b"Ask me anything\r\nStart speaking. Press Enter to start.")
        for visitor in ("first", "second"):
            model.reply = Reply(text=f"Welcome, my {visitor} guest.", heard=f"I am the {visitor}.")
            with card.say(DATA / "weather_question.wav"):
                screen.until(b"I listen.")
                seen = screen.until(f"Welcome, my {visitor} guest.".encode())
            seen += screen.until(b"Is anybody there? 2")
            assert f"I am the {visitor}.".encode() in seen
            assert visitor == "first" or b"first" not in seen
            screen.until(WIPED)
            assert visitor.encode() not in screen.until(b"Ask me anything")
    heard = [spoken_s(request) for request in model.chats]
    # Each prompt holds one clip, and that all of the question: it began before the visit did.
    assert [len(clips) for clips in heard] == [1] * len(heard)
    assert max(max(heard, key=len)) > 1.8


@with_sound
@pytest.mark.parametrize("hears_itself", [True, False])
def test_a_kiosk_that_does_not_hear_itself_is_out_of_service(tmp_path: Path, hears_itself: bool):
    with (
        virtual_audio() as card,
        stand_in() as model,
        start_server(model.url.removesuffix("/v1"), *config(tmp_path, self_test="true")) as url,
        kiosk(card, url) as (screen, _),
    ):
        if hears_itself:
            card.couple()
            screen.until(b"Ask me anything")
        else:
            screen.until(b"Out of service: the microphone does not hear the loudspeaker")


@with_sound
def test_a_service_does_not_log_what_visitors_say(tmp_path: Path):
    words = command("talk", "--kiosk")
    with (
        virtual_audio() as card,
        stand_in() as model,
        start_server(model.url.removesuffix("/v1"), *config(tmp_path)) as url,
        subprocess.Popen(
            [*words, "--url", url],
            cwd=ROOT,
            env=card.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        assert process.stdout is not None
        lines = iter(process.stdout.readline, b"")
        assert b"Ask me anything\n" in lines
        with card.say(DATA / "weather_question.wav"):
            seen = [*takewhile(lambda line: line != b"Ask me anything\n", lines)]
        process.terminate()
        assert process.wait(20) == 0
    assert b"Is anybody there? 2 s are left.\n" in seen
    assert model.chats
    assert not any(b"What was said" in line or b"Hello there" in line for line in seen)


@with_sound
def test_sound_that_stays_dead_ends_the_kiosk(tmp_path: Path):
    with (
        stand_in() as model,
        start_server(model.url.removesuffix("/v1"), *config(tmp_path, dead_s=4.0)) as url,
        ExitStack() as plug,
    ):
        card = plug.enter_context(virtual_audio())
        with kiosk(card, url) as (screen, process):
            screen.until(b"Ask me anything")
            plug.close()
            screen.until(b"no sound device has worked for 4 s")
            assert process.wait(20) == 1


@with_sound
def test_a_model_that_dies_puts_the_kiosk_out_of_service_until_it_is_back(tmp_path: Path):
    with (
        virtual_audio() as card,
        stand_in() as model,
        start_server(model.url.removesuffix("/v1"), *config(tmp_path)) as url,
        kiosk(card, url) as (screen, _),
    ):
        screen.until(b"Ask me anything")
        model.healthy = False
        screen.until(b"Out of service: the server's model does not answer")
        model.healthy = True
        screen.until(b"Ask me anything")


def test_somebody_who_speaks_is_noticed_and_a_door_or_a_hum_is_not():
    def noticed(*levels: tuple[float, int]) -> bool:
        presence = Presence()
        return any(presence.hear(level) for level, count in levels for _ in range(count))

    room = (0.001, 100)
    assert noticed(room, (0.05, 20))
    assert not noticed(room, (0.5, 8), room)
    assert not noticed(room, (0.004, 500))
    # A ventilator that is switched on is part of the room, once it has run for a while.
    ventilator = Presence()
    for _ in range(3000):
        ventilator.hear(0.02)
    ventilator.forget()
    assert not any(ventilator.hear(0.02) for _ in range(100))


def test_time_is_counted_only_while_nothing_happens():
    idle = Idle(20.0, 10.0, now=100.0)
    assert [idle.left_s(at) for at in (119.9, 120.0, 121.5, 130.0, 140.0)] == [None, 10, 9, 0, 0]
    idle.active(125.0)
    assert [idle.left_s(at) for at in (144.9, 145.0)] == [None, 10]


@pytest.mark.parametrize(("loudness", "is_heard"), [(0.1, True), (0.0, False)])
def test_a_sweep_is_told_from_noise(loudness: float, is_heard: bool):
    chance = np.random.default_rng(5)
    heard = chance.normal(0, 300, samples_in(1500))
    late = samples_in(333)
    heard[late : late + len(sweep())] += loudness * sweep()
    found: Samples = heard.astype(np.int16)
    assert (likeness(found, sweep()) >= LEAST_LIKENESS) == is_heard
