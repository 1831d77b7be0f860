"""Pipecat: its service for the realtime API in a usual pipeline, between two transports of ours."""

import asyncio
from collections.abc import AsyncIterator

from call import FRAME_S, RATE, Loudspeaker, Microphone, Seen, barge_in, run, two_turns
from loguru import logger
from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMMessagesAppendFrame,
    LLMRunFrame,
    OutputAudioRawFrame,
    StartFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSTextFrame,
)
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.services.llm_service import FunctionCallParams
from pipecat.services.openai.realtime.events import (
    AudioConfiguration,
    AudioInput,
    InputAudioTranscription,
    SessionProperties,
)
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner

WEATHER = FunctionSchema(
    name="weather",
    description="The weather of a city.",
    properties={"city": {"type": "string"}},
    required=["city"],
)


class Input(BaseInputTransport):
    """Brings what the microphone gives."""

    def __init__(self, microphone: Microphone):
        super().__init__(TransportParams(audio_in_enabled=True))
        self._microphone = microphone
        self._talking: asyncio.Task[None] | None = None

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)
        self._talking = self.create_task(self._talk())

    async def cleanup(self) -> None:
        await super().cleanup()
        if self._talking is not None:
            await self.cancel_task(self._talking)

    async def _talk(self) -> None:
        async for pcm in self._microphone.frames():
            await self.push_audio_frame(InputAudioRawFrame(pcm, RATE, 1))


class Output(BaseOutputTransport):
    """Takes sound as fast as a loudspeaker plays it."""

    def __init__(self) -> None:
        super().__init__(TransportParams(audio_out_enabled=True))

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        await asyncio.sleep(len(frame.audio) / (2 * frame.sample_rate) - FRAME_S / 10)
        return True


class Observer(BaseObserver):
    """Notes each frame once, whatever way it goes."""

    def __init__(self, seen: Seen, speaker: Loudspeaker):
        super().__init__()
        self._seen, self._speaker = seen, speaker
        self._known: set[int] = set()

    async def on_push_frame(self, data: FramePushed) -> None:
        frame = data.frame
        if frame.id in self._known:
            return
        self._known.add(frame.id)
        match frame:
            case ErrorFrame():
                self._seen.error(frame)
            case TranscriptionFrame():
                self._seen.note("user", frame.text)
            case TTSTextFrame():
                self._seen.note("agent", frame.text)
            case TTSAudioRawFrame() if isinstance(data.source, OpenAIRealtimeLLMService):
                self._speaker.play(frame.audio)
                self._seen.note("audio")
            case InterruptionFrame() if self._speaker.playing:
                self._speaker.stop()
                self._seen.note("interrupted")


async def phases(url: str) -> AsyncIterator[str]:
    seen, microphone, speaker = Seen(), Microphone(), Loudspeaker()
    logger.remove()
    logger.add(seen.error, level="WARNING")
    listen = AudioInput(transcription=InputAudioTranscription())
    llm = OpenAIRealtimeLLMService(
        api_key="any",
        base_url=f"{url}/v1/realtime",
        settings=OpenAIRealtimeLLMService.Settings(
            session_properties=SessionProperties(audio=AudioConfiguration(input=listen)),
            system_instruction="Answer in one sentence.",
        ),
    )
    done: set[str] = set()

    @llm.event_handler("on_conversation_item_updated")
    async def updated(_service, item_id, item) -> None:
        ours = item is not None and (item.role == "assistant" or item.type == "function_call")
        if ours and item.status == "completed" and item_id not in done:
            done.add(item_id)
            seen.note("done")

    async def weather(params: FunctionCallParams) -> None:
        seen.note("tool")
        await params.result_callback(f"snow {params.arguments['city']}")

    llm.register_function("weather", weather)
    context = LLMContext(
        [{"role": "user", "content": "Say hello!"}], ToolsSchema(standard_tools=[WEATHER])
    )
    sides = LLMContextAggregatorPair(context)
    parts = [Input(microphone), sides.user(), llm, Output(), sides.assistant()]
    worker = PipelineWorker(
        Pipeline(parts),
        params=PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=RATE),
        observers=[Observer(seen, speaker)],
    )
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())

    greeted = asyncio.create_task(seen.more(audio=2, agent=1, done=1))
    await worker.queue_frame(LLMRunFrame())
    await greeted
    await speaker.silence()
    await two_turns(seen, microphone, speaker)
    yield "two spoken turns"
    await barge_in(seen, microphone, speaker)
    yield "barge-in"
    answered = asyncio.create_task(seen.more(tool=1, done=2, agent=1))
    wish = {"role": "user", "content": 'call: weather {"city": "Oslo"}'}
    await llm.queue_frame(LLMMessagesAppendFrame([wish], run_llm=True))
    await answered
    assert "snow Oslo" in "".join(seen.texts), seen.texts
    await speaker.silence()
    yield "tool call"
    greeted = asyncio.create_task(seen.more(audio=2, agent=1, done=1))
    await llm.reset_conversation()
    # As Pipecat's example of a stored conversation does: it has no public way to go on.
    await llm._create_response()
    await greeted
    await speaker.silence()
    await two_turns(seen, microphone, speaker)
    yield "reconnect with history"
    await worker.queue_frame(EndFrame())
    await running


run(phases)
