"""A reply as it is streamed, read event by event from bytes cut anywhere.

Behind this there is text, sound, and one end, whatever the server's version. That a text is over
shows in a long row of empty steps; the key `stop_reason` says it for certain, but is sent with the
last of the sound (seen with vLLM-Omni 0.24 on a GPU).
"""

from collections.abc import Iterator

from agent.errors import ModelError
from agent.model.lenient_json import (
    content_of,
    part,
    parts,
    read_error,
    read_object,
    refusal,
    usage_of,
)
from agent.model.mimo import MIMO
from agent.model.output import Ended, Failed, Output, Sound, Text, TextEnded, Usage
from agent.model.reply_content import SoundReader, TextFilter
from agent.model.sse import EventReader, ServerEvent
from agent.realtime.config import Json

_WAV = "UklGR"
"""How a WAV file begins, in base64."""


class ReplyReader:
    """Reads one streamed reply; `push` takes its bytes as they come, `finish` the end of them."""

    def __init__(self) -> None:
        self._events = EventReader()
        self._text = TextFilter()
        self._sound = SoundReader()
        self._usage: Usage | None = None
        self._empty_steps = 0
        self._cut_short = False
        self._looks_complete = False
        self._over = False

    def outputs_in(self, data: bytes) -> list[Output]:
        return [output for event in self._events.events_in(data) for output in self._read(event)]

    def finish(self, error: ModelError | None = None) -> list[Output]:
        """Say how a reply ended that sends nothing more: nothing new if it ended properly.

        Args:
            error: What broke it off, if its body did not come to an end of its own.
        """
        if self._over:
            return []
        last = [] if error else self._events.finish()
        outputs = [output for event in last for output in self._read(event)]
        if self._over:
            return outputs
        if error is None and self._looks_complete:
            return [*outputs, *self._end(self._ended())]
        cut = error or ModelError("the reply was cut off", code="model_cut_off")
        return [*outputs, *self._end(Failed(cut))]

    def _read(self, event: ServerEvent) -> Iterator[Output]:
        if self._over:
            return
        if event.kind == "error":
            yield from self._end(Failed(read_error(event.data)))
            return
        if event.data.strip() == b"[DONE]":
            yield from self._end(self._ended())
            return
        try:
            chunk = read_object(event.data)
            if error := chunk.get("error"):
                raise refusal(error)
            yield from self._take(chunk)
        except ValueError as error:
            broken = ModelError(f"not a chunk of a reply: {error}", code="model_bad_chunk")
            yield from self._end(Failed(broken))
        except ModelError as error:
            yield from self._end(Failed(error))

    def _take(self, chunk: Json) -> Iterator[Output]:
        choice = next(parts(chunk, "choices"), None)
        if choice is None:
            self._usage = usage_of(chunk) or self._usage
            return
        content = content_of(part(choice, "delta"))
        self._looks_complete = isinstance(choice.get("finish_reason"), str)
        if _is_sound(chunk, choice, content):
            if pcm := self._sound.decode(content):
                yield Sound(pcm)
            return
        self._empty_steps = 0 if content else self._empty_steps + 1
        stopped = "stop_reason" in choice and (self._looks_complete or not content)
        ends = self._empty_steps == MIMO.lull or (stopped and self._empty_steps < MIMO.lull)
        if text := self._text.filter(content) + (self._text.finish() if ends else ""):
            yield Text(text)
        if stopped or content:
            # It names the token that ended the text, or none; text after it shows it was no end.
            self._cut_short = stopped and choice["stop_reason"] is None
        if ends:
            yield TextEnded(self._cut_short)

    def _ended(self) -> Ended:
        return Ended(self._usage, self._cut_short)

    def _end(self, end: Ended | Failed) -> Iterator[Output]:
        self._over = True
        if text := self._text.finish():
            yield Text(text)
        if pcm := self._sound.finish():
            yield Sound(pcm)
        yield end


def _is_sound(chunk: Json, choice: Json, content: str) -> bool:
    match chunk.get("modality"):
        case str(modality):
            return modality == "audio"
        case _:
            return "audio_metadata" in choice or content.startswith(_WAV)
