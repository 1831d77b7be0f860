"""The OpenAI Agents SDK for Python, as its guide shows it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agents import function_tool
from agents.realtime import (
    RealtimeAgent,
    RealtimeModelSendRawMessage,
    RealtimeRunner,
    RealtimeSession,
)
from call import QUESTION, Loudspeaker, Microphone, Seen, barge_in, run, two_turns


@function_tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"snow {city}"


AGENT = RealtimeAgent(name="Agent", instructions="Answer in one sentence.", tools=[weather])


class Application:
    def __init__(self) -> None:
        self.seen, self.microphone, self.speaker = Seen(), Microphone(), Loudspeaker()
        self.said: dict[str, tuple[str, str]] = {}

    @asynccontextmanager
    async def connected(self, url: str) -> AsyncIterator[RealtimeSession]:
        runner = RealtimeRunner(AGENT)
        where = {"api_key": "any", "url": f"{url}/v1/realtime?model=gpt-realtime"}
        async with await runner.run(model_config=where) as session, asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self.read(session))
            talking = tasks.create_task(self.talk(session))
            yield session
            reading.cancel()
            talking.cancel()

    async def talk(self, session: RealtimeSession) -> None:
        async for frame in self.microphone.frames():
            await session.send_audio(frame)

    async def read(self, session: RealtimeSession) -> None:
        async for event in session:
            match event.type:
                case "error":
                    self.seen.error(event.error)
                case "audio":
                    self.speaker.play(event.audio.data)
                    self.seen.note("audio")
                case "audio_interrupted" if self.speaker.playing:
                    self.speaker.stop()
                    self.seen.note("interrupted")
                case "tool_end":
                    self.seen.note("tool")
                case "history_added":
                    self.read_item(event.item)
                case "history_updated":
                    for item in event.history:
                        self.read_item(item)
                case "raw_model_event":
                    self.read_raw(event.data)

    def read_item(self, item) -> None:
        """Note the words of an item once they are there."""
        if item.type != "message" or item.item_id in self.said:
            return
        parts = [
            getattr(part, "transcript", None) or getattr(part, "text", None) or ""
            for part in item.content
        ]
        if item.role == "assistant" and item.status != "completed":
            return
        if text := "".join(parts):
            self.said[item.item_id] = (item.role, text)
            self.seen.note("agent" if item.role == "assistant" else "user", text)

    def read_raw(self, event) -> None:
        if event.type == "exception":
            self.seen.error(event.exception)
        if event.type == "raw_server_event" and event.data["type"] == "response.done":
            self.seen.note("done" if event.data["response"]["status"] == "completed" else "cut")


async def restore(session: RealtimeSession, said: dict[str, tuple[str, str]]) -> None:
    for item_id, (role, text) in said.items():
        kind = "output_text" if role == "assistant" else "input_text"
        item = {"id": item_id, "type": "message", "role": role}
        item["content"] = [{"type": kind, "text": text}]
        message = {"type": "conversation.item.create", "other_data": {"item": item}}
        await session.model.send_event(RealtimeModelSendRawMessage(message=message))


async def phases(url: str) -> AsyncIterator[str]:
    app = Application()
    async with app.connected(url) as session:
        await two_turns(app.seen, app.microphone, app.speaker)
        yield "two spoken turns"
        await barge_in(app.seen, app.microphone, app.speaker)
        yield "barge-in"
        answered = asyncio.create_task(app.seen.more(tool=1, done=2, agent=1))
        await session.send_message('call: weather {"city": "Oslo"}')
        await answered
        assert app.seen.texts[-1] == "I was told: snow Oslo", app.seen.texts
        answered = asyncio.create_task(app.seen.more(tool=1, done=2, agent=1))
        await session.update_agent(AGENT.clone(instructions='call: weather {"city": "Bergen"}'))
        app.microphone.say(QUESTION)
        await answered
        assert app.seen.texts[-1] == "I was told: snow Bergen", app.seen.texts
        yield "tool call, asked for in writing and by voice"
    said, app.said = app.said, {}
    async with app.connected(url) as session:
        restored = app.seen.until(lambda: app.said == said, "the restored history")
        await restore(session, said)
        await restored
        await app.speaker.silence()
        await two_turns(app.seen, app.microphone, app.speaker)
        yield "reconnect with history"


run(phases)
