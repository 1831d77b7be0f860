"""The configuration: one strict TOML file, read once into one frozen tree.

`configs/local.toml` lists every key with its default. Secrets come from the environment.
"""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal, cast, get_args, get_type_hints

import msgspec
from msgspec import Meta, Struct

from agent import limits
from agent.errors import SettingsError
from agent.model.tools import Style
from agent.policy import KioskSettings
from agent.text_file import text_in

Milliseconds = Annotated[int, Meta(ge=0, le=600_000)]
Seats = Annotated[int, Meta(ge=1, le=64)]
Url = Annotated[str, Meta(pattern=r"^https?://[^\s/]+")]


class Listen(Struct, frozen=True, forbid_unknown_fields=True):
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8080
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    """Processes that accept on the port; each has sessions of its own."""
    api_key_file: str = ""
    allowed_origins: tuple[str, ...] = ()
    """Pages that may use the server, beside those of this machine; `auth` reads them."""
    certificate: str = ""
    certificate_key: str = ""
    most_sessions: Annotated[int, Meta(ge=1, le=100_000)] = 1_000
    """At once; so many take a hundred megabytes and more, and file descriptors."""
    most_sessions_per_address: Annotated[int, Meta(ge=1, le=100_000)] = 100
    """Of another machine."""
    most_session_mb: Annotated[int, Meta(ge=4, le=10_000)] = 64
    """MiB of sound and text; a turn of ten minutes, and what is remembered before it, take 45."""
    most_memory_mb: Annotated[int, Meta(ge=4, le=10_000_000)] = 4_096
    """The same of all sessions together."""
    resume_grace_s: Annotated[float, Meta(ge=0, le=3_600)] = 60.0
    """A session whose connection was lost waits so long for the next, if the client asked."""
    drain_s: Annotated[float, Meta(ge=0, le=600)] = 30.0
    """A server that is told to end waits so long for those who speak, or are answered."""


class Model(Struct, frozen=True, forbid_unknown_fields=True):
    urls: Annotated[tuple[Url, ...], Meta(min_length=1)] = ("http://127.0.0.1:18091/v1",)
    """The replicas."""
    replies_at_once: Seats | tuple[Seats, ...] = 1
    """Of all replicas, or of each."""
    name: str = "MiMo-Audio-7B-Instruct"
    api_key_file: str = ""
    context_tokens: Annotated[int, Meta(ge=512, le=131_072)] = 8_192
    longest_wait_ms: Milliseconds = 15_000
    """A reply that would have to wait longer for its turn is refused."""
    first_output_timeout_ms: Milliseconds = 30_000
    between_outputs_timeout_ms: Milliseconds = 10_000
    max_tokens: Annotated[int, Meta(ge=16, le=8_192)] = 3_200
    tool_style: Style = "request"

    @property
    def replicas(self) -> list[tuple[str, int]]:
        """Each replica's address, and how many replies it makes at once."""
        seats = self.replies_at_once
        each = seats if isinstance(seats, tuple) else (seats,) * len(self.urls)
        return list(zip(self.urls, each, strict=True))


class Transcription(Struct, frozen=True, forbid_unknown_fields=True):
    mode: Literal["embedded", "model", "off"] = "embedded"
    url: Annotated[str, Meta(pattern=r"^(https?://[^\s/]+.*)?$")] = ""
    model: str = "embedded"
    api_key_file: str = ""


class Turn(Struct, frozen=True, forbid_unknown_fields=True):
    policy: Literal["server_vad", "semantic_vad"] = "server_vad"
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    vad: Literal["silero", "webrtc"] = "silero"
    threshold: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    prefix_padding_ms: Annotated[int, Meta(ge=0, le=5_000)] = 300
    silence_duration_ms: Annotated[int, Meta(ge=100, le=10_000)] = 500
    early_start_ms: Annotated[int, Meta(ge=0, le=10_000)] = 160
    echo_guard: bool = True
    longest_turn_ms: Annotated[int, Meta(ge=1_000, le=limits.CLIP_S * 1_000)] = 300_000


class Persona(Struct, frozen=True, forbid_unknown_fields=True):
    instructions: str = "You are a friendly voice assistant and your answers are concise."
    voice: str = ""
    """WAV file with a sample of the voice to speak with; empty for the model's own."""
    voices: str = ""
    """Folder of WAV files; a session may name one of them, without its ending, as its voice."""


class Kiosk(KioskSettings, frozen=True, forbid_unknown_fields=True):
    """Where a key is misspelt, the file is refused; a client minds none that it doesn't know."""


class Trace(Struct, frozen=True, forbid_unknown_fields=True):
    """Recordings of whole sessions, with all that was said."""

    folder: str = ""
    keep_mb: Annotated[int, Meta(ge=10, le=10_000_000)] = 1_000


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that can be configured."""

    listen: Listen = Listen()
    model: Model = Model()
    transcription: Transcription = Transcription()
    turn: Turn = Turn()
    persona: Persona = Persona()
    kiosk: Kiosk = Kiosk()
    trace: Trace = Trace()


def load(path: Path) -> Settings:
    """Read a configuration file.

    Raises:
        SettingsError: If it can't be read, or a key is unknown or has an impossible value.
    """
    try:
        tree = tomllib.loads(text_in(path.read_bytes()))
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
    return checked(tree, str(path))


def checked(tree: object, source: str) -> Settings:
    """Turn a tree of plain values into settings.

    Raises:
        SettingsError: If a key is unknown or has an impossible value.
    """
    try:
        settings = msgspec.convert(tree, Settings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{source}: {_explain(str(error), tree)}") from error
    urls, seats = settings.model.urls, settings.model.replies_at_once
    if isinstance(seats, tuple) and len(seats) != len(urls):
        expected = f"Expected one number for all urls, or {len(urls)} for each its own"
        raise SettingsError(f"{source}: model.replies_at_once: {expected}, found {[*seats]}")
    return settings


def _explain(problem: str, tree: object) -> str:
    """Name the key, what is allowed, and what was found."""
    what, _, where = problem.partition(" - at `$")
    path = where.rstrip("`").lstrip(".")
    if unknown := _UNKNOWN.search(what):
        key = f"{path}.{unknown[1]}".lstrip(".")
        return f"{key}: no such key; allowed are {', '.join(_keys(path))}"
    found: object = tree
    for name in path.split(".") if path else ():
        # Of a list, all is shown: `urls[0]` alone would leave out what stands beside it.
        found = _items(found).get(name.partition("[")[0])
    if what.startswith("Invalid enum value"):
        what = f"Expected one of {', '.join(map(str, get_args(_type(path))))}"
    return f"{path or 'top level'}: {what}, found {found!r}"


_UNKNOWN = re.compile("unknown field `(.*)`")


def _items(tree: object) -> dict[str, object]:
    return cast(dict[str, object], tree) if isinstance(tree, dict) else {}


def _type(path: str) -> object:
    """The type of the key at a path such as `turn.vad`."""
    kind: object = Settings
    for name in path.split(".") if path else ():
        kind = get_type_hints(kind)[name]
    return kind


def _keys(path: str) -> list[str]:
    return list(get_type_hints(_type(path)))
