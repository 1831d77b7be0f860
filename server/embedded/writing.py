"""The text of a reply, clause by clause, while the language model is still writing."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from threading import Event

from server.embedded.clauses import Clauses, is_sentence, without_markdown
from server.embedded.language import Generation, LanguageModel
from server.embedded.prompt import Turn, plain, render, self_description

NOT_UNDERSTOOD = "Sorry, I did not catch that."
READ_ALOUD = "Please convert this text to speech:"
GREETING = "Hello! How can I help you today?"
ONWARD = "Is there anything else that I can help you with?"

_MOST_TOKENS = 60
"""Two sentences have room in it, and the model has little to say after them."""
_SENTENCES = 2
"""More would only be spoken longer: a model this small repeats itself then."""


class Writer:
    """Owns the thread on which the language model writes."""

    def __init__(self, language: LanguageModel):
        self._language = language
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="language")

    def draft(self, persona: str, turns: Sequence[Turn], max_tokens: int) -> "Draft":
        return Draft(self._language, self._thread, persona, turns, max_tokens)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)


class Draft:
    """One reply's text; it is never empty."""

    def __init__(
        self,
        language: LanguageModel,
        thread: ThreadPoolExecutor,
        persona: str,
        turns: Sequence[Turn],
        max_tokens: int,
    ):
        self._language = language
        self._thread = thread
        turns = _addressed(persona, turns)
        self._asked = turns[-1].text
        self._prompt = render(persona, turns)
        self._max_tokens = max_tokens
        self.complete = True
        """False once `max_tokens` has cut the text short."""

    @property
    def prompt_tokens(self) -> int:
        """About how much the language model has to read."""
        return len(self._prompt) // 4

    async def clauses(self) -> AsyncGenerator[str, None]:
        """Write, and stop at once when the iterator is closed.

        Raises:
            ModelError: If the language model refuses the prompt.
        """
        empty = True
        async with aclosing(self._all_clauses()) as clauses:
            async for clause in clauses:
                empty = False
                yield clause
        if empty:
            yield NOT_UNDERSTOOD

    async def _all_clauses(self) -> AsyncGenerator[str, None]:
        if self._asked.startswith(READ_ALOUD):
            for clause in self._recited(self._asked.removeprefix(READ_ALOUD)):
                yield clause
        elif _has_words(self._asked):
            async with (
                aclosing(self._pieces()) as pieces,
                aclosing(self._written(pieces)) as written,
            ):
                async for clause in written:
                    yield clause

    def _recited(self, text: str) -> Iterator[str]:
        words = text.split()
        self.complete = len(words) <= self._max_tokens
        cut = Clauses()
        kept = " ".join(words[: self._max_tokens])
        yield from filter(_has_words, [*cut.push(kept), cut.rest()])

    async def _written(self, pieces: AsyncIterator[str]) -> AsyncGenerator[str, None]:
        cut = Clauses()
        said: set[str] = set()
        sentences = 0
        async for piece in pieces:
            for clause in filter(_has_words, map(_tidy, cut.push(piece))):
                # A model this small repeats itself once it has nothing more to say.
                if clause in said or sentences == _SENTENCES:
                    return
                said.add(clause)
                sentences += is_sentence(clause)
                yield clause
            if sentences == _SENTENCES:
                return
        rest = _tidy(cut.rest())
        whole = is_sentence(rest) or not sentences
        if _has_words(rest) and whole and rest not in said:
            yield rest

    async def _pieces(self) -> AsyncGenerator[str, None]:
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        unwanted = Event()
        limit = min(_MOST_TOKENS, self._max_tokens)

        def receive(piece: str) -> bool:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)
            return unwanted.is_set()

        def write() -> Generation:
            try:
                if unwanted.is_set():
                    return Generation()
                return self._language.generate(self._prompt, limit, receive)
            finally:
                loop.call_soon_threadsafe(pieces.put_nowait, None)

        writing = loop.run_in_executor(self._thread, write)
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            generation = await writing
            self.complete = generation.complete or limit < self._max_tokens
        finally:
            unwanted.set()


def _addressed(persona: str, turns: Sequence[Turn]) -> Sequence[Turn]:
    """The conversation, ending with what is to be answered, also where the agent is to speak first
    or again.

    The model imitates and can't begin: "Hello." is all it makes of a request to greet. So it is
    given the words.
    """
    if turns and turns[-1].role == "user":
        return turns
    # Who it is, and not how it is to behave.
    who = re.split(r",| and ", self_description(persona))[0]
    greeting = f"Hello! I am {who}. How can I help you today?" if who else GREETING
    return [*turns, Turn("user", f"{READ_ALOUD} {ONWARD if turns else greeting}")]


def _tidy(clause: str) -> str:
    return without_markdown(plain(clause))


def _has_words(text: str) -> bool:
    return any(map(str.isalnum, text))
