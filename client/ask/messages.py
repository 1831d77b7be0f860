"""The messages of a one-off request: read from options and files, with all sound put inline.

Sound may be a data URL, an http(s) URL or a file. WAV goes as mono PCM16 at 24 kHz, the model's
own form; other types go untouched, as the model server decodes them.
"""

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

import msgspec

from agent.audio import read_wav, wav
from agent.errors import AgentError, AudioError
from agent.model.mimo import plain
from agent.realtime.config import Json
from agent.riff import is_wav
from agent.text_file import text_in
from client.http import Fetched, FetchError, fetch
from client.sound import clip

LARGEST_BYTES = 128 * 1024 * 1024
"""Of one file: more than ten minutes of stereo at 48 kHz, and the model takes ten minutes."""

FETCH_TIMEOUT_S = 30.0
"""For the whole of a file; longer only delays giving up a link that stalls."""

TYPES = {
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
}
_SAME_TYPE = {
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/mp3": "audio/mpeg",
    "audio/opus": "audio/ogg",
    "audio/x-flac": "audio/flac",
    "audio/x-m4a": "audio/mp4",
}


class InputError(AgentError):
    """Something that was to be sent can't be: names it, and says what was wrong."""


def spoken(clips: list[str], question: str) -> list[Json]:
    """Make a message of each clip, as the model takes one a message; the question ends the last.

    Raises:
        InputError: If a clip can't be read.
    """
    parts = [_sound(clip, Path()) for clip in clips]
    if question:
        parts.append(_text(question))
    return list(_one_sound_each("user", parts))


def written(text: str) -> list[Json]:
    return [{"role": "user", "content": [_text(text)]}]


def system(text: str, voice: str) -> Iterator[Json]:
    """Make the messages that come first: whose voice to take on, and who to be.

    Raises:
        InputError: If the voice can't be read.
    """
    if voice:
        yield {
            "role": "system",
            "content": [_text("Your voice should be:"), _sound(voice, Path())],
        }
    if text:
        yield {"role": "system", "content": [_text(text)]}


class _Text(msgspec.Struct, tag="text"):
    text: str


class _Url(msgspec.Struct):
    url: str


class _AudioUrl(msgspec.Struct, tag="audio_url"):
    audio_url: _Url


class _Data(msgspec.Struct):
    data: str
    format: str


class _InputAudio(msgspec.Struct, tag="input_audio"):
    input_audio: _Data


class _Message(msgspec.Struct):
    role: Literal["system", "user", "assistant"]
    content: str | list[_Text | _AudioUrl | _InputAudio]


class _Conversation(msgspec.Struct):
    messages: list[_Message]


_decoder = msgspec.json.Decoder(_Conversation | list[_Message])


def message_file(path: Path) -> list[Json]:
    """Read `{"messages": [...]}` or the bare list; paths in it are relative to its folder.

    Raises:
        InputError: If the file, or sound that it names, can't be read or has another form.
    """
    try:
        found: _Conversation | list[_Message] = _decoder.decode(text_in(_file(path)))
    except (UnicodeError, msgspec.DecodeError) as error:
        raise InputError(f"{path}: {error}") from error
    messages = found.messages if isinstance(found, _Conversation) else found
    if not messages:
        raise InputError(f"{path}: there are no messages")
    made: list[Json] = []
    for number, message in enumerate(messages):
        try:
            made += _one_sound_each(message.role, _parts(message, path.parent))
        except InputError as error:
            raise InputError(f"{path}: messages[{number}]: {error}") from error
    return made


def _parts(message: _Message, folder: Path) -> list[Json]:
    if isinstance(message.content, str):
        return [_text(message.content)]
    return [_part(part, folder) for part in message.content]


def _part(part: _Text | _AudioUrl | _InputAudio, folder: Path) -> Json:
    match part:
        case _Text(text):
            return _text(text)
        case _AudioUrl(address):
            return _sound(address.url, folder)
        case _InputAudio(sound):
            source = f"input_audio in {sound.format}"
            kind = TYPES.get(f".{sound.format}")
            return _inline(_decoded(sound.data, source), kind, source)


def _one_sound_each(role: str, parts: list[Json]) -> Iterator[Json]:
    """Begin a new message at each sound but the first: the model server takes one a message."""
    content: list[Json] = []
    for part in parts:
        if part["type"] == "audio_url" and any(each["type"] == "audio_url" for each in content):
            yield {"role": role, "content": content}
            content = []
        content.append(part)
    yield {"role": role, "content": content}


def _text(text: str) -> Json:
    return {"type": "text", "text": plain(text)}


def _sound(source: str, folder: Path) -> Json:
    """Make a part of a data URL, an http(s) URL, a `file://` URL or a path."""
    if source.startswith("data:"):
        head, _, data = source.removeprefix("data:").partition(",")
        name = f"data URL of {head or 'no type'}"
        if not head.endswith(";base64"):
            raise InputError(f"{name}: not base64")
        return _inline(_decoded(data, name), _kind(head), name)
    if source.startswith(("http://", "https://")):
        file, type_sent = _fetched(source)
        return _inline(file, _kind_by_name(urlsplit(source).path) or _kind(type_sent), source)
    path = folder / unquote(source.removeprefix("file://")) if "://" in source else folder / source
    return _inline(_file(path), _kind_by_name(path.name), str(path))


def _kind(mime: str) -> str | None:
    bare = mime.partition(";")[0].strip().lower()
    bare = _SAME_TYPE.get(bare, bare)
    return bare if bare in TYPES.values() else None


def _kind_by_name(name: str) -> str | None:
    return TYPES.get(PurePosixPath(name).suffix.lower())


def _inline(file: bytes, kind: str | None, source: str) -> Json:
    # A pipe has no name that tells, and a website's word may be any.
    kind = "audio/wav" if is_wav(file) else kind
    if kind is None:
        raise InputError(f"{source}: not a supported type of sound; use {' '.join(TYPES)}")
    if not file:
        raise InputError(f"{source}: empty")
    if kind == "audio/wav":
        file = _model_wav(file, source)
    url = f"data:{kind};base64,{base64.b64encode(file).decode()}"
    return {"type": "audio_url", "audio_url": {"url": url}}


def _model_wav(file: bytes, source: str) -> bytes:
    try:
        pcm = read_wav(file)
    except AudioError as error:
        raise InputError(f"{source}: {error}") from error
    if not pcm:
        raise InputError(f"{source}: a WAV file without sound")
    return wav(pcm)


def _decoded(data: str, source: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{source}: not base64: {error}") from error


def _file(path: Path) -> bytes:
    try:
        return clip.whole(path, LARGEST_BYTES)
    except AudioError as error:
        raise InputError(f"{path}: {error}") from error


def _fetched(url: str) -> Fetched:
    """Return what is at a URL and what type it says it is."""
    try:
        return fetch(url, timeout_s=FETCH_TIMEOUT_S, largest_bytes=LARGEST_BYTES)
    except FetchError as error:
        raise InputError(f"{url}: {error}") from error
