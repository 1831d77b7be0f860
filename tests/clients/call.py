"""What the scripts for Python share: a microphone, a loudspeaker, and a line for each phase."""

import asyncio
import logging
import os
import sys
import time
import traceback
import wave
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path

RATE = 24_000
FRAME_S = 0.02
FRAME_BYTES = int(RATE * FRAME_S) * 2
RECORDINGS = Path(__file__).parent.parent / "data"
QUESTION = "weather_question"
"""A spoken question of 1.9 s."""


def recording(name: str) -> bytes:
    """Return a recording as mono PCM16 at 24 kHz."""
    with wave.open(str(RECORDINGS / f"{name}.wav")) as file:
        assert (file.getframerate(), file.getnchannels()) == (RATE, 1)
        return file.readframes(file.getnframes())


class Microphone:
    """Gives a frame of 20 ms in real time, silent unless something is being said."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()

    def say(self, name: str) -> None:
        pcm = recording(name)
        for start in range(0, len(pcm), FRAME_BYTES):
            self._waiting.append(pcm[start : start + FRAME_BYTES].ljust(FRAME_BYTES, b"\0"))

    async def frames(self) -> AsyncIterator[bytes]:
        due_at = time.monotonic()
        while True:
            yield self._waiting.popleft() if self._waiting else bytes(FRAME_BYTES)
            due_at += FRAME_S
            await asyncio.sleep(due_at - time.monotonic())


class Loudspeaker:
    """Knows how long the sound that it was given plays; nobody hears it."""

    def __init__(self) -> None:
        self._began_at = self._ends_at = 0.0
        self._paused_at: float | None = None

    def play(self, pcm: bytes) -> None:
        if not self.playing:
            self._began_at = self._ends_at = self._now()
        self._ends_at += len(pcm) / (RATE * 2)

    def stop(self) -> int:
        """Play no more; return how many milliseconds were played since it was last silent."""
        now = self._now()
        self._ends_at, self._paused_at = min(self._ends_at, now), None
        return int(1000 * (self._ends_at - self._began_at))

    def pause(self) -> None:
        self._paused_at = self._now()

    def resume(self) -> None:
        if self._paused_at is not None:
            self._ends_at += time.monotonic() - self._paused_at
            self._paused_at = None

    def _now(self) -> float:
        return time.monotonic() if self._paused_at is None else self._paused_at

    @property
    def left_s(self) -> float:
        return max(0.0, self._ends_at - self._now())

    @property
    def playing(self) -> bool:
        return self.left_s > 0

    async def silence(self) -> None:
        # Neither a pause nor what is still to come is known in advance.
        while self.playing:  # noqa: ASYNC110
            await asyncio.sleep(min(self.left_s, FRAME_S))


class Seen:
    """What a client reported, counted by kind; the first error ends every wait."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.texts: list[str] = []
        self.errors: list[str] = []
        self._changed = asyncio.Event()
        logging.getLogger().addHandler(_Logged(self))

    def note(self, kind: str, text: str = "") -> None:
        self.counts[kind] += 1
        self.texts += [text] if text else []
        self._changed.set()

    def error(self, what: object) -> None:
        self.errors.append(str(what)[:2_000])
        self._changed.set()

    async def until(self, true: Callable[[], object], what: str, timeout_s: float = 25) -> None:
        """Wait until something is true; fail after a while, and at any error."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.errors and not true():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{what} never came; seen {dict(self.counts)}") from None
        assert not self.errors, list(self.errors)

    async def more(self, **kinds: int) -> None:
        """Wait until so many more of each kind were reported than before this call."""
        wanted = self.counts + Counter(kinds)
        await self.until(lambda: self.counts >= wanted, f"{kinds}")


class _Logged(logging.Handler):
    """Takes what a client logs as an error or a warning."""

    def __init__(self, seen: Seen):
        super().__init__(logging.WARNING)
        self._seen = seen

    def emit(self, record: logging.LogRecord) -> None:
        self._seen.error(f"logged: {self.format(record)}")


def run(phases: Callable[[str], AsyncIterator[str]]) -> None:
    """Run a client's phases, each of which ends by giving its name; print a line for each."""

    async def every() -> None:
        try:
            async for name in phases(sys.argv[1]):
                print(f"ok    {name}", flush=True)
        except BaseException as error:
            print(f"FAIL  {type(error).__name__}: {error}", flush=True)
            traceback.print_exc()
            # A framework that is stopped in the middle may never end by itself.
            os._exit(1)

    asyncio.run(every())


async def two_turns(seen: Seen, microphone: Microphone, speaker: Loudspeaker) -> None:
    """Ask twice, and hear and read an answer each time."""
    for _ in range(2):
        reported = asyncio.create_task(seen.more(user=1, agent=1, audio=2, done=1))
        microphone.say(QUESTION)
        await reported
        assert speaker.playing
        await speaker.silence()


async def barge_in(seen: Seen, microphone: Microphone, speaker: Loudspeaker) -> None:
    """Interrupt an answer that is still being made, and one that is only still being played."""
    sounding = asyncio.create_task(seen.more(audio=1))
    microphone.say(QUESTION)
    await sounding
    for _ in range(2):
        interrupted = asyncio.create_task(seen.more(interrupted=1))
        answered = asyncio.create_task(seen.more(audio=2, done=1, agent=1))
        microphone.say(QUESTION)
        await interrupted
        await answered
        assert speaker.playing
    await speaker.silence()
