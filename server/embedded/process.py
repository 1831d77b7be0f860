"""The life of the embedded speech model's process: load, warm up, serve, end."""

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple, TypeVar

import uvicorn

from agent.audio import Resampler
from agent.errors import SettingsError
from server.embedded import recogniser, weights
from server.embedded.endpoints import Models, Service
from server.embedded.language import LanguageModel
from server.embedded.prompt import Turn, render
from server.embedded.recogniser import Recogniser
from server.embedded.reply import Replies
from server.embedded.synthesiser import Synthesiser
from server.embedded.transcripts import Transcripts

T = TypeVar("T")

Say = Callable[[str], None]

LANGUAGE_MODEL = "SmolLM2-135M"
_MOST_THREADS = 4
"""More would take the processor from the conversation server beside it."""


class Files(NamedTuple):
    """Which models are to be loaded; None is the one that is installed."""

    llm: Path | None
    voice: Path | None
    recogniser_only: bool


class _Own(NamedTuple):
    """What the user brought along."""

    language: LanguageModel | None
    voice: Synthesiser | None


class Process:
    """One run of the server, from loading to the signal that ends it."""

    def __init__(self, listener: socket.socket, files: Files, say: Say):
        self._listener = listener
        self._files = files
        self._say = say
        self._service = Service()
        self._server = _Server(
            uvicorn.Config(
                self._service.app(),
                log_level="error",
                access_log=False,
                lifespan="off",
                ws="none",
            )
        )

    def run(self, introduction: Sequence[str]) -> int:
        """Serve until SIGINT or SIGTERM; return the exit status."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._end)
        return asyncio.run(self._run(introduction))

    async def _run(self, introduction: Sequence[str]) -> int:
        status = 0
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._server.serve(sockets=[self._listener]))
                tasks.create_task(self._load(introduction))
        except* SettingsError as group:
            print(f"mimo-live model: {group.exceptions[0]}", file=sys.stderr, flush=True)
            status = 1
        finally:
            if self._service.models is not None:
                self._service.models.close()
        return status

    def _end(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """Have the server notice, at its next tick, that it is to end."""
        # It would report the replies that end with it as errors.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._server.should_exit = True
        self._server.force_exit = True

    async def _load(self, introduction: Sequence[str]) -> None:
        began = time.monotonic()
        threads = min(_MOST_THREADS, os.cpu_count() or 1)
        try:
            own = await self._own_files(threads)
            for line in introduction:
                self._say(line)
            self._service.models = await self._models(threads, own)
        except SettingsError:
            self._end()
            raise
        except _EndedEarlyError:
            return
        self._say(f"ready after {time.monotonic() - began:.1f} s")

    async def _own_files(self, threads: int) -> _Own:
        """Load what the user named: it may be anything, and nobody relies on this server yet."""
        llm, voice, _ = self._files
        return _Own(
            llm and await asyncio.to_thread(_own_language, llm, threads),
            voice and await asyncio.to_thread(_own_synthesiser, voice, threads),
        )

    async def _models(self, threads: int, own: _Own) -> Models:
        llm, _, recogniser_only = self._files
        listening = await self._stage(
            "recogniser", lambda: Recogniser(weights.recogniser(), threads)
        )
        transcripts = Transcripts(listening)
        if recogniser_only:
            return Models("embedded/whisper-base", transcripts, None)
        language = own.language or await self._stage(
            "language model", lambda: LanguageModel(weights.language_model(), threads)
        )
        voice = own.voice or await self._stage(
            "synthesiser", lambda: Synthesiser(weights.voice(), threads)
        )
        await self._stage("first pass", lambda: _first_pass(listening, language, voice))
        name = f"embedded/{llm.stem if llm else LANGUAGE_MODEL}"
        return Models(name, transcripts, Replies(transcripts, language, voice))

    async def _stage(self, name: str, load: Callable[[], T]) -> T:
        if self._server.should_exit:
            raise _EndedEarlyError
        began = time.monotonic()
        loaded = await asyncio.to_thread(load)
        self._say(f"  {name}: {time.monotonic() - began:.1f} s")
        return loaded


class _EndedEarlyError(Exception):
    """The process was asked to end while it was loading."""


class _Server(uvicorn.Server):
    """Leaves signals to `Process`: uvicorn would raise them again once it has ended."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _own_language(file: Path, threads: int) -> LanguageModel:
    return LanguageModel(weights.own_file(file, weights.is_gguf, "a GGUF model"), threads)


def _own_synthesiser(file: Path, threads: int) -> Synthesiser:
    wanted = "a Piper voice with its settings in FILE.onnx.json"
    weights.own_file(file, weights.is_voice, wanted)
    try:
        voice = Synthesiser(file, threads)
        voice.say("Hello.")
    # For a file of another kind the libraries raise whatever they stumble over.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise SettingsError(f"{file} is not {wanted}: {type(error).__name__}: {reason}") from error
    return voice


def _first_pass(listening: Recogniser, language: LanguageModel, voice: Synthesiser) -> None:
    """Hear, read and say something once, so that the first reply is as quick as later ones."""
    resampler = Resampler(voice.rate, recogniser.RATE)
    pcm = resampler.resample(voice.say("Hello there.")) + resampler.finish()
    heard = listening.transcribe(pcm, lambda: False)
    language.generate(render("", [Turn("user", heard)]), 4, lambda _: False)
