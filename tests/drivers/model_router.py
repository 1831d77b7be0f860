"""The server's own way to the model and the recogniser, taken once."""

from contextlib import aclosing

from agent.audio import RATE
from agent.commands import AskModel
from agent.model.output import ChatMessage, Output
from server.model.router import ModelRouter
from server.model.transcription import Transcriber
from server.settings import checked


async def last_output(settings: object) -> Output:
    """How a reply to "Hello." ends."""
    router = ModelRouter(checked(settings, "test"))
    question = AskModel("resp_1", [ChatMessage("user", "Hello.")], "audio", None)
    async with aclosing(router.client().reply(question)) as outputs:
        heard = [output async for output in outputs]
    await router.close()
    return heard[-1]


async def transcript(settings: object) -> str:
    """What the recogniser makes of half a second of silence."""
    read = checked(settings, "test")
    model = ModelRouter(read)
    transcriber = Transcriber(read, model)
    try:
        return await transcriber.transcribe(bytes(RATE))
    finally:
        await transcriber.close()
        await model.close()
