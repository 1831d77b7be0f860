"""The OpenAI SDK for Python, with the events that an ordinary application reads and sends."""

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from call import QUESTION, Loudspeaker, Microphone, Seen, barge_in, run, two_turns
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection

WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
SESSION = {
    "type": "realtime",
    "instructions": "Answer in one sentence.",
    "audio": {"input": {"transcription": {"model": "gpt-4o-mini-transcribe"}}},
    "tools": [WEATHER],
}


class Application:
    """Plays what it gets, stops when the user speaks, calls functions, remembers what was said."""

    def __init__(self) -> None:
        self.seen, self.microphone, self.speaker = Seen(), Microphone(), Loudspeaker()
        self.history: list[dict] = []
        self.calls: list[dict] = []
        self.item_id = ""

    @asynccontextmanager
    async def connected(self, url: str) -> AsyncIterator[AsyncRealtimeConnection]:
        client = AsyncOpenAI(api_key="any", base_url=url.replace("ws", "http", 1) + "/v1")
        async with client, client.realtime.connect(model="gpt-realtime") as connection:
            await connection.session.update(session=SESSION)
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(self.read(connection))
                talking = tasks.create_task(self.talk(connection))
                yield connection
                reading.cancel()
                talking.cancel()

    async def talk(self, connection: AsyncRealtimeConnection) -> None:
        async for frame in self.microphone.frames():
            await connection.input_audio_buffer.append(audio=b64encode(frame).decode())

    async def read(self, connection: AsyncRealtimeConnection) -> None:
        async for event in connection:
            match event.type:
                case "error":
                    self.seen.error(event)
                case "session.updated":
                    self.seen.note("configured")
                case "conversation.item.done":
                    self.seen.note("item")
                case "conversation.item.truncated":
                    self.seen.note("interrupted")
                case "conversation.item.input_audio_transcription.completed":
                    self.remember("user", "input_text", event.transcript)
                case "response.output_audio.delta":
                    self.item_id = event.item_id
                    self.speaker.play(b64decode(event.delta))
                    self.seen.note("audio")
                case "response.output_audio_transcript.done":
                    self.remember("assistant", "output_text", event.transcript)
                case "input_audio_buffer.speech_started" if self.speaker.playing:
                    await connection.conversation.item.truncate(
                        item_id=self.item_id, content_index=0, audio_end_ms=self.speaker.stop()
                    )
                case "response.function_call_arguments.done":
                    self.calls.append({"id": event.call_id, "arguments": event.arguments})
                    self.seen.note("tool")
                case "response.done" if event.response.status == "completed":
                    await self.answer_calls(connection)
                    self.seen.note("done")

    def remember(self, role: str, kind: str, text: str) -> None:
        content = [{"type": kind, "text": text}]
        self.history.append({"type": "message", "role": role, "content": content})
        self.seen.note("user" if role == "user" else "agent", text)

    async def answer_calls(self, connection: AsyncRealtimeConnection) -> None:
        for call in self.calls:
            city = json.loads(call["arguments"])["city"]
            item = {"type": "function_call_output", "call_id": call["id"], "output": f"snow {city}"}
            await connection.conversation.item.create(item=item)
            await connection.response.create()
        self.calls.clear()


async def write(connection: AsyncRealtimeConnection, text: str) -> None:
    content = [{"type": "input_text", "text": text}]
    item = {"type": "message", "role": "user", "content": content}
    await connection.conversation.item.create(item=item)
    await connection.response.create()


async def phases(url: str) -> AsyncIterator[str]:
    app = Application()
    async with app.connected(url) as connection:
        await two_turns(app.seen, app.microphone, app.speaker)
        yield "two spoken turns"
        await barge_in(app.seen, app.microphone, app.speaker)
        yield "barge-in"
        answered = asyncio.create_task(app.seen.more(tool=1, done=2, agent=1))
        await write(connection, 'call: weather {"city": "Oslo"}')
        await answered
        assert app.seen.texts[-1] == "I was told: snow Oslo", app.seen.texts
        answered = asyncio.create_task(app.seen.more(tool=1, done=2, agent=1))
        asked = {"type": "realtime", "instructions": 'call: weather {"city": "Bergen"}'}
        await connection.session.update(session=asked)
        app.microphone.say(QUESTION)
        await answered
        assert app.seen.texts[-1] == "I was told: snow Bergen", app.seen.texts
        yield "tool call, asked for in writing and by voice"
    history, app.history = app.history, []
    async with app.connected(url) as connection:
        restored = asyncio.create_task(app.seen.more(item=len(history)))
        for item in history:
            await connection.conversation.item.create(item=item)
        await restored
        await app.speaker.silence()
        await two_turns(app.seen, app.microphone, app.speaker)
        yield "reconnect with history"


run(phases)
