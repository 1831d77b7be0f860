"""Jitter buffer: evens out the arrival of the agent's audio and knows what was played.

Pure: no clock, no threads, no I/O. Whoever plays pulls a frame whenever one is due; that
alone moves time forward. Sound is mono int16 at 24 kHz and belongs to items, so that
after an interruption each item can be cut to what was heard of it.
"""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from agent.audio import Samples, samples_in
from client.dialogue.wait import Wait

FADE_SAMPLES = samples_in(8)
"""Less would click, more would swallow the first sound of a word."""

MOST_RUNS = 64
"""How many stretches of sound or silence are remembered; a loudspeaker lags by a few at most."""

_RISING = (np.arange(FADE_SAMPLES, dtype=np.float32) + 1) / (FADE_SAMPLES + 1)
"""Both ends are left out: those samples stand beside it."""


class Heard(NamedTuple):
    """What was heard of an item that didn't get to its end."""

    item_id: str
    samples: int


class _Chunk:
    def __init__(self, item_id: str, sound: Samples):
        self.item_id = item_id
        self.sound = sound
        self.taken = 0


class JitterBuffer:
    """Holds back the first sound of an answer for a moment, so that later sound may be late.

    Where sound stops, the last value glides to zero in 8 ms; where it starts, it fades in over
    8 ms. So neither gaps nor interruptions click. `server/page/playout.js` has the same rules.
    """

    def __init__(self) -> None:
        self._chunks: deque[_Chunk] = deque()
        self._buffered = 0
        self._open_item: str | None = None
        self._playing = False
        self._wait = Wait()
        self.held = False
        """Nothing plays until `resume`, and nothing is lost."""
        self._fades = _Fades()
        self._past = _Past()

    @property
    def buffered(self) -> int:
        """Samples that wait to be played."""
        return self._buffered

    @property
    def idle(self) -> bool:
        """All was played, to the silence after it, and no item is expected to go on."""
        return self._buffered == 0 and self._open_item is None and not self._playing

    def add(self, item_id: str, sound: Samples) -> None:
        """Append sound of an item, which stays open until `complete`."""
        if item_id == self._open_item and self._starved:
            self._wait.underrun()
        self._open_item = item_id
        if len(sound):
            self._chunks.append(_Chunk(item_id, sound))
            self._buffered += len(sound)

    def complete(self, item_id: str) -> None:
        """Say that the item's sound has all been pushed: what there is may play at once."""
        if item_id != self._open_item:
            return
        self._open_item = None
        self._wait.completed()

    def hold(self) -> None:
        """Glide to silence and wait for `resume`, which continues with the very next sample."""
        self.held = True

    def resume(self) -> None:
        self.held = False

    def pull(self, out: Samples) -> int:
        """Fill `out` with what is to be played next; silence where there is nothing.

        Returns:
            How many samples of items, not silence, it holds. They come first.
        """
        if not self._playing:
            self._start_if_enough(len(out))
        filled = self._take(out) if self._playing and not self.held else 0
        out[filled:] = 0
        ended = self._playing and filled < len(out)
        self._fades.shape(out, filled, ended)
        self._past.add(None, len(out) - filled)
        if ended:
            self._playing = False
            if self._starved:
                self._wait.dry += len(out) - filled
        return filled

    def played(self, item_id: str, delay_samples: int = 0) -> int:
        """Samples of the item that were pulled, less those of the latest `delay_samples`."""
        return self._past.played(item_id, delay_samples)

    def flush(self, delay_samples: int = 0) -> list[Heard]:
        """Drop everything that waits, gliding to silence in 8 ms.

        Args:
            delay_samples: How much of what was pulled has not reached the ear yet.

        Returns:
            The items that were not heard to their end, oldest first.
        """
        unheard = dict.fromkeys(self._past.within(delay_samples))
        unheard.update(dict.fromkeys(chunk.item_id for chunk in self._chunks))
        if self._open_item is not None:
            unheard[self._open_item] = None
        heard = [Heard(item_id, self.played(item_id, delay_samples)) for item_id in unheard]
        self._chunks.clear()
        self._buffered = 0
        self._open_item = None
        self.held = False
        self._wait.flushed()
        if self._playing:
            self._playing = False
            self._fades.stop()
        return heard

    def _start_if_enough(self, due: int) -> None:
        if self.held:
            return
        if not self._buffered:
            if self._starved:
                self._wait.dry += due
        elif self._open_item is None or self._has_enough:
            self._playing = True
            self._fades.start()
            self._wait.started()
        else:
            self._wait.waited += due

    @property
    def _has_enough(self) -> bool:
        return self._wait.is_enough(self._buffered, len(self._chunks[-1].sound), self._began)

    def _take(self, out: Samples) -> int:
        filled = 0
        while self._chunks and filled < len(out):
            chunk = self._chunks[0]
            count = min(len(out) - filled, len(chunk.sound) - chunk.taken)
            out[filled : filled + count] = chunk.sound[chunk.taken : chunk.taken + count]
            chunk.taken += count
            filled += count
            self._past.add(chunk.item_id, count)
            if chunk.taken == len(chunk.sound):
                self._chunks.popleft()
        self._buffered -= filled
        return filled

    @property
    def _starved(self) -> bool:
        """The open item ran dry while it played; an underrun only if it does go on."""
        return self._began and not self._playing and self._buffered == 0

    @property
    def _began(self) -> bool:
        """The open item was heard already."""
        return self._open_item is not None and self.played(self._open_item) > 0


class _Fades:
    """Shapes the edges of sound: a rise at each start, a glide from the last value at each end."""

    def __init__(self) -> None:
        self._risen = FADE_SAMPLES
        self._glided = FADE_SAMPLES
        self._glide_from = 0
        self._last = 0

    def start(self) -> None:
        self._risen = 0

    def stop(self) -> None:
        self._glide_from = self._last
        self._glided = 0

    def shape(self, out: Samples, filled: int, ended: bool) -> None:
        """Shape a frame of `filled` samples of sound, then zeros."""
        rising = min(filled, FADE_SAMPLES - self._risen)
        if rising:
            out[:rising] = out[:rising] * _RISING[self._risen : self._risen + rising]
            self._risen += rising
        self._glide(out)
        if ended:
            # Sound may end while an earlier glide still sounds below it: one glide takes both on.
            out[filled:] = 0
            if filled:
                self._last = int(out[filled - 1])
            self.stop()
            self._glide(out[filled:])
        if len(out):
            self._last = int(out[-1])

    def _glide(self, out: Samples) -> None:
        count = min(len(out), FADE_SAMPLES - self._glided)
        if count:
            glide = self._glide_from * (1 - _RISING[self._glided : self._glided + count])
            out[:count] += glide.astype(np.int16)
            self._glided += count


class _Past:
    """What was pulled lately, to tell what a loudspeaker that lags has not played yet."""

    def __init__(self) -> None:
        self._runs: deque[tuple[str | None, int]] = deque()
        self._played: dict[str, int] = {}

    def add(self, item_id: str | None, count: int) -> None:
        """Note `count` samples of an item, or of silence (`None`)."""
        if not count:
            return
        if item_id is not None:
            self._played[item_id] = self._played.get(item_id, 0) + count
        if self._runs and self._runs[-1][0] == item_id:
            count += self._runs.pop()[1]
        self._runs.append((item_id, count))
        while len(self._runs) > MOST_RUNS:
            self._forget(self._runs.popleft()[0])

    def played(self, item_id: str, delay_samples: int) -> int:
        late = sum(count for found, count in self._latest(delay_samples) if found == item_id)
        return self._played.get(item_id, 0) - late

    def within(self, delay_samples: int) -> list[str]:
        """The items among the latest samples, oldest first."""
        return [found for found, _ in self._latest(delay_samples) if found is not None][::-1]

    def _latest(self, samples: int) -> Iterator[tuple[str | None, int]]:
        for item_id, count in reversed(self._runs):
            if samples <= 0:
                return
            yield item_id, min(count, samples)
            samples -= count

    def _forget(self, item_id: str | None) -> None:
        if item_id is not None and all(item_id != found for found, _ in self._runs):
            del self._played[item_id]
