"""The HTTP side of the embedded speech model: health, models, chat, transcriptions."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from email import policy
from email.message import EmailMessage, Message
from email.parser import BytesParser
from secrets import token_hex
from typing import cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from agent.errors import ModelError
from server.embedded.reply import Replies, ReplyEvent
from server.embedded.request import ChatRequest, RequestError, clip_of, decode
from server.embedded.response import DONE, Chunks, Head, Json, completion, error_body, event
from server.embedded.transcripts import Clip, Clips, Transcripts

OWNER = "mimo-live embedded demonstration model (not MiMo-Audio)"


_LOADING = RequestError("The model is loading.", status=503, kind="ServiceUnavailableError")

_Work = Callable[[Request, bytes, Send], Awaitable[Response | None]]
"""An endpoint's work; it returns None if it has sent its response itself."""


class Models:
    """What answers requests, once it is loaded."""

    def __init__(self, name: str, transcripts: Transcripts, replies: Replies | None):
        self.name = name
        """What everybody is shown of the model that answers."""
        self.transcripts = transcripts
        self.replies = replies
        self.clips = Clips()

    def close(self) -> None:
        self.transcripts.close()
        if self.replies is not None:
            self.replies.close()


class Service:
    """The wire; `models` is None while they are being loaded."""

    def __init__(self) -> None:
        self.models: Models | None = None

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/health", self._health),
                Route("/v1/models", self._list_models),
                Route("/v1/chat/completions", _Endpoint(self._chat), methods=["POST"]),
                Route("/v1/audio/transcriptions", _Endpoint(self._transcribe), methods=["POST"]),
            ]
        )

    async def _health(self, _request: Request) -> Response:
        healthy = self.models is not None
        body = {"status": "healthy" if healthy else "loading"}
        return JSONResponse(body, 200 if healthy else 503)

    async def _list_models(self, _request: Request) -> Response:
        if self.models is None:
            return JSONResponse(error_body(_LOADING), _LOADING.status)
        model = {"id": self.models.name, "object": "model", "created": 0, "owned_by": OWNER}
        return JSONResponse({"object": "list", "data": [model]})

    async def _chat(self, request: Request, body: bytes, send: Send) -> Response | None:
        models = self._loaded()
        if models.replies is None:
            raise RequestError("This server only transcribes speech.", status=404)
        chat = await asyncio.to_thread(decode, body, models.clips, models.name)
        number = request.headers.get("x-request-id") or token_hex(8)
        head = Head(f"chatcmpl-{number}", int(time.time()), models.name)
        answer = _Answer(models.replies, chat, head)
        if not chat.stream:
            return JSONResponse(await answer.whole())
        await answer.stream(send)
        return None

    async def _transcribe(self, request: Request, body: bytes, _send: Send) -> Response:
        models = self._loaded()
        content_type = request.headers.get("content-type", "")
        clip, response_format = await asyncio.to_thread(_decode_upload, content_type, body)
        words = await models.transcripts.words(clip)
        if response_format == "text":
            return PlainTextResponse(words + "\n")
        return JSONResponse({"text": words})

    def _loaded(self) -> Models:
        if self.models is None:
            raise _LOADING
        return self.models


class _Endpoint:
    """Runs the work for one request only as long as its connection is open."""

    def __init__(self, work: _Work):
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()

        async def respond() -> None:
            try:
                response = await self._work(request, body, send)
            except RequestError as error:
                response = JSONResponse(error_body(error), error.status)
            if response is not None:
                await response(scope, receive, send)

        await _while_connected(receive, respond())


async def _while_connected(receive: Receive, work: Coroutine[None, None, None]) -> None:
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(work)
        watching = tasks.create_task(_disconnected(receive))
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        working.cancel()
        watching.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class _Answer:
    """One reply as an HTTP response."""

    def __init__(self, replies: Replies, chat: ChatRequest, head: Head):
        self._replies = replies
        self._chat = chat
        self._head = head

    async def whole(self) -> Json:
        if self._chat.late_error is not None:
            raise self._chat.late_error
        made: list[ReplyEvent] = []

        async def keep(each: ReplyEvent) -> None:
            made.append(each)

        failure: RequestError | None = None
        try:
            await self._replies.reply(self._chat.ask, keep)
        except* ModelError as group:
            failure = _failure(group)
        if failure is not None:
            raise failure
        return completion(self._chat, self._head, made)

    async def stream(self, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        chunks = Chunks(self._chat, self._head)

        async def write(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        async def pass_on(made: ReplyEvent) -> None:
            for chunk in chunks.of(made):
                await write(event(chunk))

        if self._chat.late_error is not None:
            await write(event(error_body(self._chat.late_error)))
        else:
            for chunk in chunks.begin():
                await write(event(chunk))
            try:
                await self._replies.reply(self._chat.ask, pass_on)
            except* ModelError as group:
                await write(event(error_body(_failure(group))))
        await write(DONE)
        await send({"type": "http.response.body", "body": b""})


def _failure(group: BaseExceptionGroup[ModelError]) -> RequestError:
    return RequestError(str(group.exceptions[0]), status=500, kind="InternalServerError")


def _decode_upload(content_type: str, body: bytes) -> tuple[Clip, str]:
    """Read a multipart form with a WAV `file`.

    Raises:
        RequestError: If there is no such file, or another format is asked for.
    """
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    form = BytesParser(policy=policy.HTTP).parsebytes(head + body)
    fields = {str(_field_name(part)): _content(part) for part in _parts(form)}
    if "file" not in fields:
        raise RequestError("A multipart form with a WAV `file` is expected.", param="file")
    response_format = fields.get("response_format", b"json").decode(errors="replace")
    if response_format not in ("json", "text"):
        raise RequestError(
            f"Unsupported response_format '{response_format}'. Supported: json, text",
            param="response_format",
        )
    return clip_of(fields["file"]), response_format


def _parts(form: EmailMessage) -> list[Message]:
    return list(form.iter_parts()) if form.is_multipart() else []


def _field_name(part: Message) -> object:
    return part.get_param("name", header="content-disposition")


def _content(part: Message) -> bytes:
    return cast(bytes, part.get_payload(decode=True) or b"")
