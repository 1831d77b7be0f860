"""A reply: the conversation in, text and sound out while they are being made.

Recogniser, language model and synthesiser each have a thread. The first clause is spoken
while the language model goes on writing. One reply is made at a time, others wait in line.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from agent.audio import RATE, SAMPLE_BYTES, Resampler, samples_in
from server.embedded.language import LanguageModel
from server.embedded.prompt import Turn, plain
from server.embedded.synthesiser import Synthesiser
from server.embedded.transcripts import Clip, Transcripts
from server.embedded.writing import Writer

_CHUNK_BYTES = samples_in(480) * SAMPLE_BYTES
"""As MiMo-Audio sends it: 480 ms at most."""
_STEP_BYTES = samples_in(160) * SAMPLE_BYTES
"""160 ms, the model server's unit: limits and usage count in it."""


@dataclass(frozen=True, slots=True)
class Said:
    """One message of the conversation, as it came."""

    role: Literal["user", "assistant"]
    text: str
    clip: Clip | None


@dataclass(frozen=True, slots=True)
class Ask:
    """What a reply is wanted to."""

    persona: str
    said: Sequence[Said]
    """At least one message."""
    max_tokens: int
    speech: bool
    """Whether sound is wanted, or text only."""


@dataclass(frozen=True, slots=True)
class TextMade:
    """The next words; they come before their sound."""

    text: str


@dataclass(frozen=True, slots=True)
class TextEnded:
    """No more words will come."""

    complete: bool
    """False where `max_tokens` cut the reply short."""


@dataclass(frozen=True, slots=True)
class SoundMade:
    """The next sound: mono PCM16 at 24 kHz, at most 480 ms."""

    pcm: bytes
    is_last: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """Everything was made."""

    prompt_tokens: int
    completion_tokens: int


ReplyEvent = TextMade | TextEnded | SoundMade | Ended
Emit = Callable[[ReplyEvent], Awaitable[None]]


class Replies:
    """Makes replies, one at a time, first come first served.

    A reply is aborted by cancelling it: the work for it ends at the next token or clause.
    """

    def __init__(self, transcripts: Transcripts, language: LanguageModel, synthesiser: Synthesiser):
        self._transcripts = transcripts
        self._writer = Writer(language)
        self._synthesiser = synthesiser
        self._speaking = ThreadPoolExecutor(1, thread_name_prefix="synthesiser")
        self._slot = asyncio.Lock()

    async def reply(self, ask: Ask, emit: Emit) -> None:
        """Make the reply and pass it on piece by piece.

        Raises:
            ExceptionGroup: Of `ModelError`, if the language model refuses the prompt.
        """
        async with asyncio.TaskGroup() as tasks:
            # Clips are recognised while the reply waits in line.
            turns = [tasks.create_task(self._turn(said)) for said in ask.said]
            async with self._slot:
                await self._answer(ask, [await turn for turn in turns], emit)

    def close(self) -> None:
        self._writer.close()
        self._speaking.shutdown(cancel_futures=True)

    async def _turn(self, said: Said) -> Turn:
        text = plain(said.text)
        # What the assistant wrote is exact; only sound without text needs recognising.
        if said.clip is None or (text and said.role == "assistant"):
            return Turn(said.role, text)
        return Turn(said.role, f"{text} {await self._transcripts.words(said.clip)}".strip())

    async def _answer(self, ask: Ask, turns: Sequence[Turn], emit: Emit) -> None:
        draft = self._writer.draft(ask.persona, turns, ask.max_tokens)
        sound = _Sound(self._synthesiser.rate, emit)
        tokens = 0
        async with aclosing(draft.clauses()) as clauses:
            async for clause in clauses:
                for word in clause.split():
                    await emit(TextMade(f" {word}" if tokens else word))
                    tokens += 1
                if ask.speech:
                    await sound.push(await self._say(clause))
        await emit(TextEnded(draft.complete))
        if ask.speech:
            tokens += await sound.finish()
        await emit(Ended(draft.prompt_tokens, tokens))

    async def _say(self, clause: str) -> bytes:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._speaking, self._synthesiser.say, clause)


class _Sound:
    """The reply's sound as one stream: one rate, one resampler, chunks of bounded length."""

    def __init__(self, rate: int, emit: Emit):
        self._resampler = Resampler(rate, RATE)
        self._emit = emit
        self._bytes = 0

    async def push(self, pcm: bytes) -> None:
        await self._send(self._resampler.resample(pcm), is_last=False)

    async def finish(self) -> int:
        """Send the end of the stream; return how many steps of 160 ms it took in all."""
        await self._send(self._resampler.finish(), is_last=True)
        return -(-self._bytes // _STEP_BYTES)

    async def _send(self, pcm: bytes, *, is_last: bool) -> None:
        self._bytes += len(pcm)
        starts = range(0, len(pcm), _CHUNK_BYTES) or ([0] if is_last else [])
        for start in starts:
            chunk = pcm[start : start + _CHUNK_BYTES]
            ends_here = is_last and start + _CHUNK_BYTES >= len(pcm)
            await self._emit(SoundMade(chunk, ends_here))
