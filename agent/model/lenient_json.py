"""What a model server writes, as JSON: only what is needed of it is looked at.

Versions, proxies and other servers fill in the rest as they like: a field may be missing, null, of
any type and of any size. Nothing that nobody hears stops what is heard.
"""

import json
import math
from collections.abc import Iterator
from typing import cast

from agent.errors import ModelError
from agent.model.output import Usage
from agent.realtime.config import Json

EVENT_STREAM = "text/event-stream"
LONGEST_QUOTE = 100
"""Characters of what a server said in place of an answer."""

_MOST_TOKENS = 2**31 - 1
"""A count beyond this is none: some clients read 32 bits."""


def _number(digits: str) -> float:
    """A number of any length; `NaN` and `Infinity` are Python's own, and no JSON."""
    value = float(digits)
    return int(value) if math.isfinite(value) and value.is_integer() else value


_decoder = json.JSONDecoder(parse_int=_number, parse_float=_number, parse_constant=_number)


def read_object(data: bytes) -> Json:
    """Read one JSON object.

    Raises:
        ValueError: If it is none.
    """
    try:
        value: object = _decoder.decode(data.decode(errors="replace"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, found {type(value).__name__}")
    return cast(Json, value)


def part(parent: Json, name: str) -> Json:
    """An object inside another one; empty if there is none."""
    value = parent.get(name)
    return cast(Json, value) if isinstance(value, dict) else {}


def parts(parent: Json, name: str) -> Iterator[Json]:
    """The objects of a list inside an object."""
    value = parent.get(name)
    for each in cast(list[object], value) if isinstance(value, list) else []:
        if isinstance(each, dict):
            yield cast(Json, each)


def content_of(parent: Json, name: str = "content") -> str:
    """Text, or sound as base64: the one thing that must be right if it is there.

    Raises:
        ValueError: If it is no string.
    """
    value = parent.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"expected {name} to be a string, found {type(value).__name__}")
    # Half of a pair of surrogates is no character, and can't be sent on.
    return value if value.isascii() else value.encode(errors="replace").decode()


def usage_of(reply: Json) -> Usage | None:
    counts = part(reply, "usage")
    if not counts:
        return None
    return Usage(_tokens(counts.get("prompt_tokens")), _tokens(counts.get("completion_tokens")))


def _tokens(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= _MOST_TOKENS else None


def refusal(error: object, status: int = 400) -> ModelError:
    """Turn the `error` of a model server's answer, whatever its form, into ours.

    Its code is `"model_cache_miss"` if the request named speech that the replica has no more,
    `"model_failed"` if it is the server's fault, otherwise `"model_refused"`.

    Args:
        status: The HTTP status that it came with; the error's own code counts more.
    """
    fields: Json = cast(Json, error) if isinstance(error, dict) else {}
    found = fields.get("message")
    message = found if isinstance(found, str) else str(cast(object, error))
    if message.startswith("Cache miss for audio"):
        return ModelError(message, code="model_cache_miss")
    number = fields.get("code")
    number = number if isinstance(number, int) else status
    return ModelError(message, code="model_failed" if number >= 500 else "model_refused")


def read_error(data: bytes, status: int = 500) -> ModelError:
    """Read what went wrong from an error's own text: JSON of any form, or words."""
    try:
        found = read_object(data)
    except ValueError:
        return refusal(first_words(data) or "the model server gave no reason", status)
    return refusal(found.get("error") or found, status)


def unexpected(kind: str, body: bytes, wanted: str) -> ModelError:
    """Name an answer that is something else than was asked for; an error in it counts more.

    Args:
        kind: The media type that it came with.
    """
    try:
        error = read_object(body).get("error")
    except ValueError:
        error = None
    if error:
        return refusal(error)
    named = kind.partition(";")[0].strip() or "of no type"
    words = first_words(body) or "empty"
    message = f"expected {wanted}, but the answer is {named}: {words}"
    return ModelError(message, code="model_bad_reply")


def is_stream(kind: str) -> bool:
    """Whether a media type is that of server-sent events, or is not given at all."""
    return kind.partition(";")[0].strip().lower() in ("", EVENT_STREAM)


def first_words(body: bytes) -> str:
    """The beginning of a text in one line, without what could steer a terminal."""
    words = body[: 4 * LONGEST_QUOTE].decode(errors="replace").split()
    line = "".join(each if each.isprintable() else "?" for each in " ".join(words))
    return line if len(line) <= LONGEST_QUOTE else f"{line[:LONGEST_QUOTE]}…"
