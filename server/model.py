"""Requests to the model server: a reply as it streams."""

from collections.abc import AsyncGenerator, Sequence

import httpx2
import openai

from agent.errors import ModelError
from agent.mimo import ChatMessage, Failed, Output, ReplyReader, chat_request
from agent.objects import Json, Modality
from server.settings import Settings


class ModelServer:
    """The model server, for all sessions of the process; connections are reused."""

    def __init__(self, settings: Settings):
        self._settings = settings.model
        # The session's own deadlines decide how long to wait; nothing is sent twice behind them.
        no_limit = httpx2.Timeout(None, connect=5.0)
        self._chat = openai.AsyncOpenAI(
            base_url=settings.model.url, api_key="none", max_retries=0, timeout=no_limit
        )

    async def reply(
        self,
        messages: list[ChatMessage],
        modality: Modality,
        max_tokens: int | None,
        tools: Sequence[Json] = (),
    ) -> AsyncGenerator[Output]:
        """Stream a reply; the last output says how it ended. Closing the iterator aborts it."""
        most = min(max_tokens or self._settings.max_tokens, self._settings.max_tokens)
        body = chat_request(messages, modality, most, self._settings.name, tools)
        reader = ReplyReader()
        try:
            async with self._chat.chat.completions.with_streaming_response.create(
                model=self._settings.name, messages=[], stream=True, extra_body=body
            ) as response:
                async for data in response.iter_bytes():
                    for output in reader.push(data):
                        yield output
        except openai.OpenAIError as error:
            yield Failed(_explained(error))
        except httpx2.HTTPError as error:
            yield Failed(ModelError(f"the reply was cut off: {error}", code="model_cut_off"))
        else:
            for output in reader.finish():
                yield output

    async def close(self) -> None:
        await self._chat.close()


def _explained(error: openai.OpenAIError) -> ModelError:
    match error:
        case openai.APIStatusError():
            return ModelError(f"the model server refused: {error.message}", code="model_refused")
        case openai.APIConnectionError():
            return ModelError("the model server can't be reached", code="model_unreachable")
        case _:
            return ModelError(str(error))
