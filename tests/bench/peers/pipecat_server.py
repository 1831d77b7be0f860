"""A voice server made with Pipecat, for the load benchmark: the same job, for as little as it can.

`pipecat_server.py MODEL_URL` listens on a free port of this machine and says which. Clients send
mono PCM16 at 24 kHz in binary frames, and are sent the same; `?caller=NAME` is in the instructions
that their requests to the model begin with.

It is made as Pipecat's documentation has it: a pipeline for each connection, Silero in a
`VADProcessor`, and a processor that calls the model. What the job does not need is left out:
metrics, turn tracking, RTVI, a context of earlier turns, transcription. Silero takes 16 kHz, so the
serializer resamples, as Pipecat's own do where the wire has another rate.
"""

import asyncio
import base64
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from fastapi import FastAPI, WebSocket
from loguru import logger
from pipecat.audio.utils import create_stream_resampler, pcm_to_wav
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADParams
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    OutputAudioRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.audio.vad_processor import VADProcessor
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner

WIRE_RATE = 24_000
VAD_RATE = 16_000
STOP_S = 0.5
"""Silence that ends a turn, as `server_vad` of our server has it."""
BEFORE_SPEECH_BYTES = VAD_RATE
"""Half a second, kept from before the detector is sure: it takes 0.2 s of speech for that."""
LONGEST_LINE_BYTES = 1 << 20
"""Of the model's stream; a chunk of sound is one line."""
FORMAT = {"modalities": ["text", "audio"], "audio": {"format": "pcm16"}}


class Pcm(FrameSerializer):
    """Sound alone, without any frame around it."""

    def __init__(self) -> None:
        super().__init__()
        self._resampler = create_stream_resampler()

    async def serialize(self, frame: Frame) -> bytes | None:
        return frame.audio if isinstance(frame, OutputAudioRawFrame) else None

    async def deserialize(self, data: str | bytes) -> Frame | None:
        pcm = await self._resampler.resample(data, WIRE_RATE, VAD_RATE)
        return InputAudioRawFrame(pcm, VAD_RATE, 1) if pcm else None


class SpeechModel(FrameProcessor):
    """Sends what was said in a turn to the model, and on what it answers."""

    def __init__(self, http: aiohttp.ClientSession, url: str, instructions: str):
        super().__init__()
        self._http = http
        self._url = url
        self._system = {"role": "system", "content": instructions}
        self._said = bytearray()
        self._speaks = False
        self._answering: asyncio.Task[None] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        match frame:
            case InputAudioRawFrame():
                self._said += frame.audio
                if not self._speaks:
                    del self._said[:-BEFORE_SPEECH_BYTES]
            case VADUserStartedSpeakingFrame():
                self._speaks = True
                await self._fall_silent()
                await self.broadcast_interruption()
            case VADUserStoppedSpeakingFrame():
                self._speaks = False
                said = bytes(self._said)
                self._said.clear()
                await self._fall_silent()
                self._answering = self.create_task(self._answer(said))
            case EndFrame() | CancelFrame():
                await self._fall_silent()
                await self.push_frame(frame, direction)
            case _:
                await self.push_frame(frame, direction)

    async def _fall_silent(self) -> None:
        if self._answering is not None:
            await self.cancel_task(self._answering)
            self._answering = None

    async def _answer(self, said: bytes) -> None:
        url = "data:audio/wav;base64," + base64.b64encode(pcm_to_wav(said, VAD_RATE, 1)).decode()
        user = {"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": url}}]}
        body = {"stream": True, **FORMAT, "messages": [self._system, user]}
        await self.push_frame(TTSStartedFrame())
        async with self._http.post(f"{self._url}/chat/completions", json=body) as response:
            async for line in response.content:
                if not line.startswith(b"data: {"):
                    continue
                chunk = json.loads(line[6:])
                if chunk.get("modality") == "audio":
                    pcm = base64.b64decode(chunk["choices"][0]["delta"]["content"])
                    await self.push_frame(TTSAudioRawFrame(pcm, WIRE_RATE, 1))
        await self.push_frame(TTSStoppedFrame())


async def converse(websocket: WebSocket, http: aiohttp.ClientSession, model_url: str) -> None:
    """Hold one conversation, until the client leaves."""
    params = FastAPIWebsocketParams(audio_in_enabled=True, audio_out_enabled=True, serializer=Pcm())
    transport = FastAPIWebsocketTransport(websocket, params)
    silero = SileroVADAnalyzer(params=VADParams(stop_secs=STOP_S))
    model = SpeechModel(http, model_url, websocket.query_params["caller"])
    parts = [transport.input(), VADProcessor(vad_analyzer=silero), model, transport.output()]
    worker = PipelineWorker(
        Pipeline(parts),
        params=PipelineParams(audio_in_sample_rate=VAD_RATE, audio_out_sample_rate=WIRE_RATE),
        enable_rtvi=False,
        enable_turn_tracking=False,
        idle_timeout_secs=None,
    )

    @transport.event_handler("on_client_disconnected")
    async def left(_transport, _websocket) -> None:
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


def main() -> None:
    logger.remove()
    logger.add(sys.stdout, level="WARNING")
    [model_url] = sys.argv[1:]
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        # As many requests at once as there are callers.
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(
            connector=connector, read_bufsize=LONGEST_LINE_BYTES
        ) as http:
            app.state.http = http
            print(f"listening on ws://127.0.0.1:{listening.getsockname()[1]}")
            print("ready", flush=True)
            yield

    app = FastAPI(lifespan=life)

    @app.websocket("/ws")
    async def connected(websocket: WebSocket) -> None:
        await websocket.accept()
        await converse(websocket, app.state.http, model_url)

    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
