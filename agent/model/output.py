"""The port to a speech model: what the session asks for, and what any backend yields.

A request is `ChatMessage`s in `commands.AskModel`; a reply is a stream of `Output`.
"""

from dataclasses import dataclass
from typing import Literal

import msgspec

from agent.errors import ModelError


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of the prompt: text, speech (mono PCM16 at 24 kHz), or both."""

    role: Literal["system", "user", "assistant", "tool"]
    text: str = ""
    pcm: bytes = b""
    key: str = ""
    """Names the speech to a replica that had it before; empty if it is always sent whole."""
    words: str = ""
    """Stands for the speech where there is no room for it."""


@dataclass(frozen=True, slots=True)
class Call:
    """The model wants a function called; `arguments` is a JSON object as text."""

    name: str
    arguments: str


class Usage(msgspec.Struct, frozen=True):
    """What a reply cost, in the model server's own count, as far as it says."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    """Every step of sound counts, too."""


@dataclass(frozen=True, slots=True)
class Text:
    """What the model says, in writing."""

    text: str


@dataclass(frozen=True, slots=True)
class Sound:
    """What the model says, as mono PCM16 at 24 kHz."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class TextEnded:
    """No text will come any more; sound may, and may go on for long.

    What the client has to wait for need not wait for the end of the sound.
    """

    cut_short: bool = False
    """The reply ran into its limit of tokens."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The reply is over."""

    usage: Usage | None = None
    cut_short: bool = False
    """It ran into its limit of tokens."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The reply broke off; what came before it still counts."""

    error: ModelError


Output = Text | Sound | TextEnded | Ended | Failed
"""What a backend yields of one reply: it ends with `Ended` or `Failed`, exactly once."""
