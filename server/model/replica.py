"""One replica of the model server: its connections, its queue, and whether it still answers."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Literal
from urllib.parse import urlsplit

import httpx2
import msgspec
import openai
from msgspec import structs

from agent.errors import ModelError
from agent.keys import redacted
from agent.model.admission import Admission, EarlyStart, Ticket
from agent.model.lenient_json import is_stream, unexpected
from agent.model.output import ChatMessage, Ended, Failed, Output
from agent.model.reply_reader import ReplyReader
from agent.model.request import chat_request
from agent.model.whole_reply import read_refusal
from agent.realtime.config import Json
from agent.workers import ALONE, Place
from server.model.http_client import api_client
from server.settings import Model

CONNECT_TIMEOUT_S = 5.0
"""A replica in the same network answers in milliseconds; while it doesn't, a user waits."""
PROBE_TIMEOUT_S = 10.0
"""Longer would keep a dead replica among the living, shorter lose one that is busy."""
LOOK_EVERY_S = 5.0
"""Between looks at a replica; the longest that its end goes unnoticed while nobody talks."""
FIRST_PAUSE_S = 0.5
"""It doubles: a replica that restarts is found soon, one that is gone is left alone."""
LONGEST_NAME = 200
"""Characters of a model's name, which everybody is shown."""
LONGEST_PAUSE_S = 10.0
"""Between looks at one that is down; the longest that its return goes unnoticed."""
END_OF_BODY_S = 0.5
"""How long the end of a body may take after the end of its reply; then its connection is closed."""


log = logging.getLogger(__name__)


class Condition(msgspec.Struct, frozen=True):
    """What `/healthz` says of a replica."""

    state: Literal["unknown", "healthy", "down"] = "unknown"
    """Unknown only until it was first looked at."""
    model: str | None = None
    """Which model it says it serves."""


class _Served(msgspec.Struct):
    id: str
    replies_at_once: object = None
    """A number, from servers that say it."""


class _Models(msgspec.Struct):
    """The answer of `/v1/models`."""

    data: list[_Served]


class Replica:
    """One model server, for all sessions of the process; connections are reused."""

    def __init__(
        self, url: str, seats: int, settings: Model, key: str | None, place: Place = ALONE
    ):
        self._settings = settings
        self._seats = seats
        """Of all processes together."""
        # The session's own deadlines decide how long to wait.
        patience = httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S)
        self._client = api_client(url, key, patience)
        self._served: _Served | None = None
        """What it says of its model."""
        self._admission = Admission(place.share(seats))
        self._admitted: dict[Ticket, asyncio.Event] = {}
        self._suspected = asyncio.Event()
        self._down_since = 0.0
        self.condition = Condition()
        self.url = url

    def __str__(self) -> str:
        where = urlsplit(self.url)
        return (
            f"the model server at {where._replace(netloc=where.netloc.rpartition('@')[2]).geturl()}"
        )

    @property
    def healthy(self) -> bool:
        """False from a failure until it answers again."""
        return not self._suspected.is_set()

    def suspect(self) -> None:
        """It failed or fell silent: have it probed."""
        self._suspected.set()

    def trust(self) -> None:
        """It answered."""
        self._suspected.clear()
        if self.condition.state != "healthy":
            self._found("healthy")

    def wait_s(self, dry_at: float, *, is_early: bool = False) -> float:
        """Estimate how long a reply would wait for its turn."""
        return self._admission.wait_s(dry_at, _now(), is_early=is_early)

    @asynccontextmanager
    async def turn(
        self, dry_at: float, session: object, early: EarlyStart | None
    ) -> AsyncGenerator[None]:
        """Occupy a seat, once there is one that nobody needs who runs dry earlier.

        Args:
            session: Whose reply it is: it has one at a time.
            early: If the reply is made in a pause; `advance` must be called when it is kept.

        Raises:
            ModelError: If that takes too long, or will; its code is `"model_busy"`.
        """
        longest_s = self._settings.longest_wait_ms / 1000
        expected_s = self.wait_s(dry_at, is_early=early is not None)
        if expected_s > longest_s:
            raise _busy(expected_s)
        ticket = self._admission.enter(dry_at, session, early)
        admitted = self._admitted[ticket] = asyncio.Event()
        self.advance()
        try:
            try:
                async with asyncio.timeout(longest_s):
                    await admitted.wait()
            except TimeoutError:
                raise _busy(self.wait_s(dry_at)) from None
            yield
        finally:
            del self._admitted[ticket]
            self._admission.leave(ticket, _now())
            self.advance()

    def advance(self) -> None:
        """Begin what may begin, and end the early starts whose seats are needed."""
        while (ticket := self._admission.advance(_now())) is not None:
            self._admitted[ticket].set()
        while (early := self._admission.displace()) is not None:
            early.give_way()

    async def stream(self, body: Json) -> AsyncGenerator[Output]:
        """Stream a reply; the last output says how it ended. Closing the iterator aborts it."""
        reader = ReplyReader()
        try:
            # Encoded here, a request with speech in it holds up the other sessions half as long.
            answer = await self._client.post(
                "/chat/completions",
                cast_to=object,
                content=msgspec.json.encode(body),
                stream=True,
                stream_cls=openai.AsyncStream[object],
                options={"headers": {"Content-Type": "application/json"}},
            )
            async with aclosing(answer.response) as response:
                kind = response.headers.get("content-type", "")
                if not is_stream(kind):
                    body_came = await response.aread()
                    yield Failed(unexpected(kind, body_came, "a stream of events"))
                    return
                chunks = response.aiter_bytes()
                async for data in chunks:
                    outputs = reader.outputs_in(data)
                    if outputs and isinstance(outputs[-1], Ended):
                        await _exhaust(chunks)
                    for output in outputs:
                        yield output
                    if outputs and isinstance(outputs[-1], Failed):
                        return
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            broken = explained(error, self._client.api_key)
        else:
            broken = None
        for output in reader.finish(broken):
            yield output

    async def watch(self) -> None:
        """Look after the replica: whether it answers, and with which model. Logs changes only."""
        pause_s = FIRST_PAUSE_S
        while True:
            was_suspected = not self.healthy
            problem = await self._look() or (await self._probe() if was_suspected else None)
            if problem is not None:
                self.suspect()
                self._found("down", problem)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            pause_s = FIRST_PAUSE_S
            if was_suspected or self.healthy:
                self.trust()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._suspected.wait()

    def _found(self, state: Literal["healthy", "down"], problem: str = "") -> None:
        before, model = self.condition.state, self.condition.model
        self.condition = Condition(state, model)
        if before == state:
            return
        if state == "down":
            self._down_since = _now()
            log.warning("%s does not answer: %s", self, problem)
        else:
            again = f" again, after {_now() - self._down_since:.0f} s" if before == "down" else ""
            log.info("%s answers%s; it serves %s", self, again, model or "a model without a name")
            told, set_to = self._served and self._served.replies_at_once, self._seats
            if isinstance(told, int) and told != set_to:
                wrong = "%s makes %d replies at once, but model.replies_at_once says %d"
                log.warning(wrong, self, told, set_to)

    async def _look(self) -> str | None:
        """Ask which model it serves and how it is; say what is wrong, if anything is."""
        root = self.url.rstrip("/").removesuffix("/v1")
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await self._learn_model()
                await self._client.get(f"{root}/health", cast_to=httpx2.Response)
        except TimeoutError:
            return f"no data for {PROBE_TIMEOUT_S:.0f} s"
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            # A server without these paths may do all that is needed of it.
            is_other = isinstance(error, openai.NotFoundError)
            return None if is_other else str(explained(error, self._client.api_key))
        return None

    async def _learn_model(self) -> None:
        answer = await self._client.get("/models", cast_to=httpx2.Response)
        try:
            served = msgspec.json.decode(answer.content, type=_Models).data
        except (msgspec.DecodeError, UnicodeError):
            served = []
        ours = [each for each in served if each.id == self._settings.name]
        self._served = next(iter(ours or served), None)
        model = self._served and self._served.id[:LONGEST_NAME]
        self.condition = structs.replace(self.condition, model=model)

    async def _probe(self) -> str | None:
        """Ask for a word, as `/health` answers for an engine that hangs; say what is wrong."""
        hi = chat_request([ChatMessage("user", "hi")], "text", 4, self._settings.name)
        with suppress(TimeoutError):
            async with asyncio.timeout(PROBE_TIMEOUT_S), aclosing(self.stream(hi)) as outputs:
                ends = [output async for output in outputs if isinstance(output, Failed)]
                return str(ends[0].error) if ends else None
        return f"no answer for {PROBE_TIMEOUT_S:.0f} s"

    async def close(self) -> None:
        await self._client.close()


async def _exhaust(chunks: AsyncIterator[bytes]) -> None:
    """Read the end of a body, so that its connection can be used again."""
    with suppress(TimeoutError, httpx2.HTTPError):
        async with asyncio.timeout(END_OF_BODY_S):
            async for _ in chunks:
                pass


def _now() -> float:
    return asyncio.get_running_loop().time()


def _busy(wait_s: float) -> ModelError:
    message = f"The model is busy; try again in about {max(1, round(wait_s))} s."
    return ModelError(message, code="model_busy")


def explained(error: openai.OpenAIError | httpx2.HTTPError, key: str) -> ModelError:
    """Say what went wrong with a request, in the model server's own words if it had any.

    Args:
        key: What the request was made with, if anything; no error shows it.
    """
    match error:
        case openai.AuthenticationError():
            other = "a different" if key else "an"
            return ModelError(f"the model server requires {other} API key", code="model_refused")
        case openai.APIStatusError():
            found = read_refusal(error.response.content, error.status_code)
            return ModelError(redacted(str(found), key), code=found.code)
        case openai.APIConnectionError():
            cause = error.__cause__
            reason = f": {cause}" if isinstance(cause, httpx2.ProxyError) else ""
            message = f"the model server can't be reached{reason}"
            return ModelError(message, code="model_unreachable")
        case openai.OpenAIError():
            return ModelError(str(error))
        case _:
            return ModelError(f"the reply was cut off: {error}", code="model_cut_off")
