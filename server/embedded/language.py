"""The small language model: a prompt in, the reply's text as it is generated.

llama.cpp runs in this process. It keeps the state of the last prompt, so whatever a new
prompt has in common with it (the examples, the conversation so far) costs nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import NotRequired, Protocol, TypedDict, cast

import xllamacpp

from agent.errors import ModelError, SettingsError

CONTEXT_TOKENS = 4096
"""Above what prompt and history take at most; more would only take memory."""


class _Choice(TypedDict):
    text: str
    finish_reason: str | None


class _Chunk(TypedDict):
    choices: Sequence[_Choice]
    error: NotRequired[object]


class _Threads(Protocol):
    n_threads: int


class _File(Protocol):
    path: str


class _Params(Protocol):
    model: _File
    n_ctx: int
    n_parallel: int
    cpuparams: _Threads
    cpuparams_batch: _Threads
    cache_ram_mib: int
    verbosity: int
    api_keys: list[str]


class _Server(Protocol):
    def handle_completions(
        self, request: Mapping[str, object], on_chunk: Callable[[_Chunk], bool], /
    ) -> object: ...


class _Runtime(Protocol):
    """The part of llama.cpp's binding that is used; the binding itself has no types."""

    def CommonParams(self) -> _Params: ...  # noqa: N802

    def Server(self, params: _Params, /) -> _Server: ...  # noqa: N802


_xllamacpp = cast(_Runtime, xllamacpp)


class Generation:
    """What came out of one prompt so far."""

    def __init__(self) -> None:
        self.complete = False
        """The model ended by itself, not because its tokens were used up or it was stopped."""
        self.tokens = 0


class LanguageModel:
    """A GGUF model on the processor. Not to be called from two threads at once.

    Args:
        threads: Threads that read prompts. Text is generated on one: the synthesiser works
            at the same time, and threads that wait for each other at every layer then crawl.

    Raises:
        SettingsError: If the file can't be loaded.
    """

    def __init__(self, model: Path, threads: int):
        params = _xllamacpp.CommonParams()
        params.model.path = str(model)
        params.n_ctx = CONTEXT_TOKENS
        params.n_parallel = 1
        params.cpuparams.n_threads = 1
        params.cpuparams_batch.n_threads = threads
        params.cache_ram_mib = 0
        params.verbosity = -1
        # The library opens a port of its own on the loopback; nobody knows this key.
        params.api_keys = [token_hex(32)]
        try:
            self._server = _xllamacpp.Server(params)
        except RuntimeError as error:
            raise SettingsError(
                f"{model} can't be loaded: it is damaged, truncated, too large for the memory, or "
                "not a model that this version of llama.cpp supports"
            ) from error

    def generate(self, prompt: str, max_tokens: int, on_text: Callable[[str], bool]) -> Generation:
        """Generate one line of text, greedily, until the model ends it.

        Args:
            on_text: Called with each piece of text; generation stops at once when it
                returns True.

        Raises:
            ModelError: If the model refuses the prompt.
        """
        generation = Generation()
        refusals: list[object] = []

        def receive(chunk: _Chunk) -> bool:
            if "error" in chunk:
                refusals.append(chunk["error"])
                return True
            choice = chunk["choices"][0]
            generation.tokens += bool(choice["text"])
            generation.complete = choice["finish_reason"] == "stop"
            return on_text(choice["text"])

        request: Mapping[str, object] = {
            "prompt": prompt,
            "n_predict": max_tokens,
            "temperature": 0.0,
            "stop": ["\n", "<|im_end|>"],
            "cache_prompt": True,
            "stream": True,
        }
        self._server.handle_completions(request, receive)
        if refusals:
            raise ModelError(f"the language model refused: {refusals[0]}")
        return generation
