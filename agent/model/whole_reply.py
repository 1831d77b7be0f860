"""A reply that was not streamed, and the body of an HTTP error: one JSON document each."""

from agent.errors import ModelError
from agent.model.lenient_json import content_of, part, parts, read_object, refusal, usage_of
from agent.model.output import Ended, Output, Sound, Text
from agent.model.reply_content import SoundReader, TextFilter


def read_whole(body: bytes) -> list[Output]:
    """Read a reply that was not streamed: at most one text and one sound, then its end.

    Text and sound are in one choice, or, before 0.30, in two.

    Raises:
        ModelError: If it is an error, or no reply.
    """
    try:
        reply = read_object(body)
        if error := reply.get("error"):
            raise refusal(error)
        choices = list(parts(reply, "choices"))
        messages = [part(choice, "message") for choice in choices]
        words, sounds = TextFilter(), SoundReader()
        said = "".join(words.filter(content_of(each)) for each in messages) + words.finish()
        pcm = b"".join(sounds.decode(content_of(part(each, "audio"), "data")) for each in messages)
    except ValueError as error:
        raise ModelError(f"not a reply: {error}", code="model_bad_reply") from error
    if not choices:
        raise ModelError("a reply without choices", code="model_bad_reply")
    pcm += sounds.finish()
    text: list[Output] = [Text(said)] if said else []
    sound: list[Output] = [Sound(pcm)] if pcm else []
    cut_short = choices[0].get("stop_reason", "") is None
    return [*text, *sound, Ended(usage_of(reply), cut_short)]


def read_refusal(body: bytes, status: int) -> ModelError:
    """Read why a request was answered with an HTTP error."""
    try:
        error = read_object(body).get("error")
    except ValueError:
        error = None
    return refusal(error or f"the model server answered with HTTP status {status}", status)
