"""LiveKit Agents: an agent session with the realtime plugin, with our own sound, not a room's."""

import asyncio
from collections.abc import AsyncIterator

from call import QUESTION, RATE, Loudspeaker, Microphone, Seen, barge_in, run, two_turns
from livekit import rtc
from livekit.agents import Agent, AgentSession, function_tool, utils
from livekit.agents.voice import io
from livekit.plugins import openai

RECONNECTS_AFTER_S = 70
"""LiveKit's own is 20 minutes."""


class Input(io.AudioInput):
    """Brings what the microphone gives."""

    def __init__(self, microphone: Microphone):
        super().__init__(label="microphone")
        self._frames = microphone.frames()

    async def __anext__(self) -> rtc.AudioFrame:
        pcm = await anext(self._frames)
        return rtc.AudioFrame(pcm, RATE, 1, len(pcm) // 2)


class Output(io.AudioOutput):
    """Plays what it gets, and tells how much of it was played."""

    def __init__(self, seen: Seen, speaker: Loudspeaker):
        able = io.AudioOutputCapabilities(pause=True)
        super().__init__(label="speaker", capabilities=able, sample_rate=RATE)
        self._seen, self._speaker = seen, speaker
        self._captured_s = 0.0
        self._dropped_s = 0.0
        self._finishing: asyncio.Task[None] | None = None

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        await super().capture_frame(frame)
        self._captured_s += frame.duration
        self._speaker.play(bytes(frame.data))
        self._seen.note("audio")

    def flush(self) -> None:
        super().flush()
        if self._captured_s:
            self._finishing = asyncio.create_task(self._finish(self._captured_s))
            self._captured_s = 0.0

    async def _finish(self, captured_s: float) -> None:
        await self._speaker.silence()
        dropped_s, self._dropped_s = self._dropped_s, 0.0
        played_s = max(0.0, captured_s - dropped_s)
        self.on_playback_finished(playback_position=played_s, interrupted=dropped_s > 0)
        if dropped_s:
            self._seen.note("interrupted")

    def clear_buffer(self) -> None:
        self._dropped_s += self._speaker.left_s
        self._speaker.stop()

    def pause(self) -> None:
        self._speaker.pause()

    def resume(self) -> None:
        self._speaker.resume()


class Captions(io.TextOutput):
    """Takes the agent's words."""

    def __init__(self, seen: Seen):
        super().__init__(label="captions", next_in_chain=None)
        self._seen = seen
        self._text = ""

    async def capture_text(self, text: str) -> None:
        self._text += text

    def flush(self) -> None:
        if self._text:
            self._seen.note("agent", self._text)
        self._text = ""


class Helpful(Agent):
    def __init__(self, seen: Seen) -> None:
        super().__init__(instructions="Answer in one sentence.")
        self._seen = seen

    @function_tool
    async def weather(self, city: str) -> str:
        """Tell the weather of a city."""
        self._seen.note("tool")
        return f"snow {city}"


def observe(session: AgentSession, seen: Seen) -> None:
    @session.on("error")
    def on_error(event) -> None:
        seen.error(event.error)

    @session.on("user_input_transcribed")
    def on_words(event) -> None:
        if event.is_final:
            seen.note("user", event.transcript)


async def phases(url: str) -> AsyncIterator[str]:
    seen, microphone, speaker = Seen(), Microphone(), Loudspeaker()
    model = openai.realtime.RealtimeModel(
        base_url=url.replace("ws", "http", 1) + "/v1",
        api_key="any",
        max_session_duration=RECONNECTS_AFTER_S,
    )
    session = AgentSession(llm=model)
    observe(session, seen)
    session.input.audio = Input(microphone)
    session.output.audio = Output(seen, speaker)
    session.output.transcription = Captions(seen)
    agent = Helpful(seen)
    async with utils.http_context.open():
        await session.start(agent)
        realtime = agent.realtime_llm_session
        realtime.on("openai_server_event_received", lambda event: on_event(seen, event))
        realtime.on("session_reconnected", lambda _event: seen.note("reconnected"))
        await two_turns(seen, microphone, speaker)
        yield "two spoken turns"
        await barge_in(seen, microphone, speaker)
        yield "barge-in"
        answered = asyncio.create_task(seen.more(tool=1, done=2, agent=1))
        await session.generate_reply(user_input='call: weather {"city": "Oslo"}')
        await answered
        assert seen.texts[-1] == "I was told: snow Oslo", seen.texts
        answered = asyncio.create_task(seen.more(tool=1, done=2, agent=1))
        await agent.update_instructions('call: weather {"city": "Bergen"}')
        await speaker.silence()
        microphone.say(QUESTION)
        await answered
        assert seen.texts[-1] == "I was told: snow Bergen", seen.texts
        await agent.update_instructions("Answer in one sentence.")
        await speaker.silence()
        yield "tool call, asked for in writing and by voice"
        await seen.until(lambda: seen.counts["reconnected"], "a reconnect", RECONNECTS_AFTER_S)
        await two_turns(seen, microphone, speaker)
        yield "reconnect with history"
        await session.aclose()


def on_event(seen: Seen, event: dict) -> None:
    if event["type"] == "response.done" and event["response"]["status"] == "completed":
        seen.note("done")


run(phases)
