"""A reply that was not streamed, and the body of an HTTP error: one JSON document each."""

import msgspec
from msgspec import UNSET, UnsetType

from agent.errors import ModelError
from agent.mimo import Ended, Output, Sound, Text, Usage, refusal
from agent.reply_content import SoundReader, TextFilter


class _WholeAudio(msgspec.Struct):
    data: str = ""


class _WholeMessage(msgspec.Struct):
    content: str | None = None
    audio: _WholeAudio | None = None


class _WholeChoice(msgspec.Struct):
    message: _WholeMessage
    stop_reason: int | str | UnsetType | None = UNSET


class _WholeReply(msgspec.Struct):
    choices: tuple[_WholeChoice, ...] = ()
    usage: Usage | None = None
    error: object = None


_whole_decoder = msgspec.json.Decoder(_WholeReply)


def read_whole(body: bytes) -> list[Output]:
    """Read a reply that was not streamed: at most one text and one sound, then its end.

    Text and sound are in one choice, or, before 0.30, in two.

    Raises:
        ModelError: If it is an error, or no reply.
    """
    try:
        reply = _whole_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ModelError(f"not a reply: {error}", code="model_bad_reply") from error
    if reply.error:
        raise refusal(reply.error)
    if not reply.choices:
        raise ModelError("a reply without choices", code="model_bad_reply")
    messages = [choice.message for choice in reply.choices]
    words, sounds = TextFilter(), SoundReader()
    said = "".join(words.push(each.content) for each in messages if each.content) + words.finish()
    pcm = b"".join(sounds.push(each.audio.data) for each in messages if each.audio)
    pcm += sounds.finish()
    text: list[Output] = [Text(said)] if said else []
    sound: list[Output] = [Sound(pcm)] if pcm else []
    return [*text, *sound, Ended(reply.usage, reply.choices[0].stop_reason is None)]


def read_refusal(body: bytes, status: int) -> ModelError:
    """Read why a request was answered with an HTTP error."""
    try:
        error = _whole_decoder.decode(body).error
    except (msgspec.DecodeError, UnicodeError):
        error = None
    return refusal(error or f"the model server answered with HTTP status {status}", status)
