"""One request to the model server and its answer, timed as it comes."""

import asyncio
import statistics
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import pairwise

import httpx2

from agent.audio import seconds
from agent.errors import ModelError
from agent.keys import MODEL, redacted
from agent.model.lenient_json import is_stream, unexpected
from agent.model.output import Ended, Failed, Output, Sound, Text, TextEnded
from agent.model.reply_reader import ReplyReader
from agent.model.whole_reply import read_refusal, read_whole
from agent.realtime.config import Json


@dataclass
class Answer:
    """What one request was answered; times count from its start."""

    number: int
    """Counted from 1, among requests of the same words."""
    text: str = ""
    pcm: bytearray = field(default_factory=bytearray)
    error: str | None = None
    """Why the answer isn't whole."""
    first_text_s: float | None = None
    total_s: float = 0.0
    _sounds: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])

    def take(self, output: Output, at_s: float) -> None:
        match output:
            case Text(text):
                self.text += text
                self.first_text_s = at_s if self.first_text_s is None else self.first_text_s
            case Sound(pcm):
                self._sounds.append((at_s, seconds(self.pcm)))
                self.pcm += pcm
            case Failed(error):
                self.error = str(error)
            case TextEnded() | Ended():
                pass

    def measures(self) -> dict[str, float | None]:
        """All times in seconds, each `None` where there was nothing to measure."""
        arrivals = [at_s for at_s, _ in self._sounds]
        gaps = [later - earlier for earlier, later in pairwise(arrivals)]
        # A chunk is late by what it came after the end of the sound before it.
        late = [at_s - arrivals[0] - before_s for at_s, before_s in self._sounds]
        audio_s = seconds(self.pcm)
        return {
            "first_text_s": self.first_text_s,
            "first_audio_s": arrivals[0] if arrivals else None,
            "audio_s": audio_s,
            "rtf": self.total_s / audio_s if audio_s else None,
            "gap_p50_s": statistics.median(gaps) if gaps else None,
            "gap_max_s": max(gaps) if gaps else None,
            "playout_delay_s": max(late) if gaps else None,
            "total_s": self.total_s,
        }


async def ask(
    client: httpx2.AsyncClient,
    url: str,
    body: Json,
    *,
    key: str | None,
    number: int,
    timeout_s: float,
    tell: Callable[[Output], None],
) -> Answer:
    """Send one request; never raises for what the model server does.

    Args:
        key: What the client shows; no error does.
        tell: Is given each output as it comes.
    """
    answer = Answer(number)
    began = time.perf_counter()
    try:
        async with (
            asyncio.timeout(timeout_s),
            aclosing(_outputs(client, url, body, key)) as outputs,
        ):
            async for output in outputs:
                answer.take(output, time.perf_counter() - began)
                tell(output)
    except TimeoutError:
        answer.error = f"no complete reply within {timeout_s:g} s"
    answer.total_s = time.perf_counter() - began
    return answer


async def _outputs(
    client: httpx2.AsyncClient, url: str, body: Json, key: str | None
) -> AsyncGenerator[Output]:
    reader = ReplyReader()
    try:
        async with client.stream("POST", url, json=body) as response:
            if not response.is_success:
                yield Failed(_refused(response.status_code, await response.aread(), key))
                return
            kind = response.headers.get("content-type", "")
            if not body["stream"]:
                for output in _whole(kind, await response.aread()):
                    yield output
                return
            if not is_stream(kind):
                yield Failed(unexpected(kind, await response.aread(), "a stream of events"))
                return
            async for data in response.aiter_bytes():
                for output in reader.outputs_in(data):
                    yield output
    except ModelError as error:
        yield Failed(error)
        return
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
        yield Failed(ModelError(f"{url} can't be reached: {error}", code="model_unreachable"))
        return
    except httpx2.HTTPError as error:
        reason = str(error) or type(error).__name__
        yield Failed(ModelError(f"the reply was cut off: {reason}", code="model_cut_off"))
        return
    for output in reader.finish():
        yield output


def _whole(kind: str, body: bytes) -> list[Output]:
    try:
        return read_whole(body)
    except ModelError as error:
        if error.code != "model_bad_reply":
            raise
        raise unexpected(kind, body, "a whole reply in JSON") from error


def _refused(status: int, body: bytes, key: str | None) -> ModelError:
    if status == HTTPStatus.UNAUTHORIZED:
        other = "a different" if key else "an"
        message = f"the model server requires {other} API key: use --api-key-file or {MODEL}"
        return ModelError(message, code="model_refused")
    reason = read_refusal(body, status)
    shown = redacted(str(reason), key)
    return ModelError(f"the model server refused (HTTP {status}): {shown}", code=reason.code)
