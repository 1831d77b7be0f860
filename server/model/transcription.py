"""What the user said, in writing: from a small recogniser in a process of its own.

The one slot of a GPU is busy talking, so the words come from elsewhere. A recogniser that runs
already is asked at its URL; otherwise one is started when the first words are wanted.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress

import httpx2
import openai

from agent.audio import seconds, wav
from agent.commands import AskModel, Overhear, Transcribe
from agent.errors import ModelError
from agent.keys import TRANSCRIPTION, redacted
from agent.model.lenient_json import content_of, read_object
from agent.model.output import ChatMessage, Failed, Text
from agent.realtime import server_events as events
from agent.trace.inputs import Overheard, Transcribed
from server.keys import find_key
from server.model.http_client import api_client
from server.model.recogniser import Recogniser
from server.model.router import ModelRouter
from server.settings import Settings

log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 30.0
"""After so long a transcript is of no use; and it keeps others waiting."""
PROMPT = "Please transcribe this audio."
MOST_TOKENS = 300
"""More than anybody says in a turn; a reply that never ends would keep others waiting."""
MOST_WAITING = 64
"""Transcripts that may be owed at once, over all sessions."""


class Transcriber:
    """Writes down speech, for all sessions of the process.

    Args:
        recogniser: Has a recogniser running and returns its URL, or raises a `ModelError`; without
            it, and a URL in the settings, there is one of its own.
        most_waiting: Transcripts that may be owed at once.
    """

    def __init__(
        self,
        settings: Settings,
        model: ModelRouter,
        recogniser: Callable[[], Awaitable[str]] | None = None,
        most_waiting: int = MOST_WAITING,
    ):
        self._settings = settings.transcription
        self._model = model
        file = self._settings.api_key_file
        self._key = find_key(os.environ, TRANSCRIPTION, file, "transcription.api_key_file")
        self._client: openai.AsyncOpenAI | None = None
        self._url = ""
        self._own = Recogniser()
        self._recogniser = recogniser or self._own.url
        self._most_waiting = most_waiting
        self._waiting = 0

    @property
    def is_on(self) -> bool:
        return self._settings.mode != "off"

    @property
    def is_quick(self) -> bool:
        """Whether words are there soon, and cost no reply its place."""
        return self._settings.mode == "embedded"

    async def transcribe(self, pcm: bytes) -> str:
        """Write down speech: mono PCM16 at 24 kHz.

        Raises:
            ModelError: If there is no recogniser, it refuses or answers without text, or too
                much is owed already.
        """
        if self._waiting >= self._most_waiting:
            raise ModelError("too many transcripts are pending", code="transcription_busy")
        self._waiting += 1
        try:
            by_model = self._settings.mode == "model"
            return await (self._from_model(pcm) if by_model else self._from_recogniser(pcm))
        finally:
            self._waiting -= 1

    async def _from_model(self, pcm: bytes) -> str:
        """Ask the speech model itself, once no listener waits for it any more."""
        # As if there were a minute still to play: every reply goes first.
        last = asyncio.get_running_loop().time() + 60.0
        prompt = [ChatMessage("user", PROMPT, pcm)]
        ask = AskModel("transcript", prompt, "text", MOST_TOKENS, playing_until=last)
        words: list[str] = []
        async with aclosing(self._model.client().reply(ask)) as outputs:
            async for output in outputs:
                match output:
                    case Text(text):
                        words.append(text)
                    case Failed(error):
                        raise error
                    case _:
                        pass
        return "".join(words).strip()

    async def _from_recogniser(self, pcm: bytes) -> str:
        try:
            client = await self._ready()
            # Read by ourselves: the client library raises whatever a broken answer leads to.
            answer = await client.audio.transcriptions.with_raw_response.create(
                model=self._settings.model, file=("speech.wav", wav(pcm), "audio/wav")
            )
        except openai.AuthenticationError as error:
            other = "a different" if self._key else "an"
            message = f"the recogniser requires {other} API key"
            raise ModelError(message, code="transcription_failed") from error
        except openai.OpenAIError as error:
            message = f"the recogniser failed: {redacted(str(error), self._key)}"
            raise ModelError(message, code="transcription_failed") from error
        return _text_of(answer.content)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
        await self._own.close()

    async def _ready(self) -> openai.AsyncOpenAI:
        url = self._settings.url or await self._recogniser()
        if self._client is None or url != self._url:
            key = self._key if self._settings.url else None
            self._url = url
            self._client = api_client(url, key, httpx2.Timeout(ANSWER_TIMEOUT_S))
        return self._client


class Transcripts:
    """What the user of one session says, in writing."""

    def __init__(self, transcriber: Transcriber):
        self._transcriber = transcriber
        self._is_read = False
        """Whether the client has what is said written down; else no recogniser hears it."""

    async def write_down(self, wish: Transcribe | Overhear) -> Transcribed | Overheard | None:
        """Return the words, or why there are none; nothing if nobody needs to know."""
        if isinstance(wish, Transcribe) and self._transcriber.is_on:
            self._is_read, error = True, None
            try:
                text = await self._transcriber.transcribe(wish.pcm)
            except ModelError as failure:
                log.warning("no transcript of %s: %s", wish.item_id, failure)
                text = ""
                error = events.TranscriptionError("server_error", failure.code, str(failure))
            return Transcribed(wish.item_id, text, seconds(wish.pcm), error)
        if isinstance(wish, Overhear) and self._is_read and self._transcriber.is_quick:
            with suppress(ModelError):
                return Overheard(wish.item_id, await self._transcriber.transcribe(wish.pcm))
        return None


def _text_of(body: bytes) -> str:
    try:
        answer = read_object(body)
        if answer.get("text") is None:
            raise ValueError("no text")
        return content_of(answer, "text")
    except ValueError as error:
        message = f"the recogniser's answer can't be read: {error}"
        raise ModelError(message, code="transcription_failed") from error
