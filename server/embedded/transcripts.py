"""Clips of speech and their words: every clip is recognised once, whoever asks for it.

A conversation sends its whole history with every turn, and captions ask for the clip that a
reply is being made to, so the same sound arrives many times. It is known by its digest.
"""

import asyncio
import hashlib
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event, Lock

from server.embedded.recogniser import Recogniser

_REMEMBERED_TRANSCRIPTS = 1024
"""A history is sent anew with each request: of fewer, its clips would be heard again."""
_REMEMBERED_BYTES = 64 * 2**20
"""35 minutes of sound; a client whose clip is gone sends it again."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Mono PCM16 at 16 kHz."""

    pcm: bytes
    digest: str

    @classmethod
    def of(cls, pcm: bytes) -> "Clip":
        return cls(pcm, hashlib.sha256(pcm).hexdigest())


class Clips:
    """The clips that clients may refer to by a key; the least used are forgotten first."""

    def __init__(self) -> None:
        self._clips: OrderedDict[str, Clip] = OrderedDict()
        self._bytes = 0
        # Requests are decoded on several threads.
        self._lock = Lock()

    def keep(self, key: str, clip: Clip) -> None:
        with self._lock:
            old = self._clips.pop(key, None)
            self._bytes += len(clip.pcm) - (len(old.pcm) if old else 0)
            self._clips[key] = clip
            while self._bytes > _REMEMBERED_BYTES:
                _, forgotten = self._clips.popitem(last=False)
                self._bytes -= len(forgotten.pcm)

    def find(self, key: str) -> Clip | None:
        with self._lock:
            if key in self._clips:
                self._clips.move_to_end(key)
            return self._clips.get(key)


@dataclass(slots=True)
class _Job:
    words: Future[str]
    unwanted: Event
    waiting: int = field(default=0)


class Transcripts:
    """Recognises on a thread of its own, in the order in which clips were first asked for."""

    def __init__(self, recogniser: Recogniser):
        self._recogniser = recogniser
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recogniser")
        self._jobs: OrderedDict[str, _Job] = OrderedDict()

    async def words(self, clip: Clip) -> str:
        """Return the words of a clip; work that nobody waits for any more is dropped."""
        job = self._jobs.get(clip.digest) or self._begin(clip)
        self._jobs.move_to_end(clip.digest)
        job.waiting += 1
        try:
            return await asyncio.shield(asyncio.wrap_future(job.words))
        finally:
            job.waiting -= 1
            if not job.waiting and not job.words.done():
                self._jobs.pop(clip.digest)
                job.unwanted.set()
                job.words.cancel()

    def close(self) -> None:
        for job in self._jobs.values():
            job.unwanted.set()
        self._thread.shutdown(cancel_futures=True)

    def _begin(self, clip: Clip) -> _Job:
        unwanted = Event()
        words = self._thread.submit(self._recogniser.transcribe, clip.pcm, unwanted.is_set)
        job = self._jobs[clip.digest] = _Job(words, unwanted)
        if len(self._jobs) > _REMEMBERED_TRANSCRIPTS:
            oldest = next(iter(self._jobs))
            if self._jobs[oldest].words.done():
                del self._jobs[oldest]
        return job
