"""The callers of the load benchmark: a microphone that asks a question again and again.

Ours speak the realtime protocol. Those of a peer send and are sent sound in binary frames, and
nothing else.
"""

import asyncio
import base64
import itertools
import json
import time
from collections.abc import Sequence
from urllib.parse import quote

import numpy as np
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from agent.audio import RATE, pcm16, read_wav
from client.sound.clip import end_of_speech
from tests.bench.server import FRAME_BYTES, FRAME_MS
from tests.drivers.model_client import recording

FRAME_S = FRAME_MS / 1000
TURN_S = 10.0
"""From question to question."""
NOISE = 10 ** (-66 / 20)
"""What a quiet room gives, of full scale: digital silence would be too easy."""
QUESTION = "weather_question.wav"
PAUSE_S = 1.0
"""Without sound, so that the next of it begins another reply of a peer."""


class Caller(WSListener):
    """One client, which plays nothing."""

    def __init__(self, number: int):
        self.name = f"caller {number}."
        """In its instructions, and so in its requests to the model."""
        self.began_at: list[float] = []
        """When the microphone began to give each question."""
        self.trouble = ""
        self.frame_kind = WSMsgType.BINARY

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def leave(self) -> None:
        self._transport.disconnect(graceful=False)

    async def speak(self, frames: list[bytes], until: float) -> None:
        """Send what the microphone gives, each frame when its last sample was captured.

        After a time it begins no question, but ends the one that it is in.
        """
        began = time.monotonic()
        for number in itertools.count():
            index = number % len(frames)
            if not index:
                if time.monotonic() > until:
                    return
                self.began_at.append(began + number * FRAME_S)
            captured = began + (number + 1) * FRAME_S
            if (wait_s := captured - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            self._transport.send(self.frame_kind, frames[index])

    def path(self) -> str:
        """Where it connects to, of the server's address."""
        raise NotImplementedError

    def relay_ms(self, sent_at: Sequence[Sequence[float]]) -> list[float] | None:
        """From the model's chunks on its socket to this one's.

        Args:
            sent_at: When each chunk was sent, for every reply that was made for this caller.

        Returns:
            One time for each chunk that can be compared; `None` if not all was heard.
        """
        raise NotImplementedError


class RealtimeCaller(Caller):
    """Speaks the realtime protocol.

    A reply's first chunk may wait until the turn is over for certain, so it is not compared; all
    others are.
    """

    def __init__(self, number: int, *, binary: bool, detection: str, guarded: bool):
        super().__init__(number)
        self._detection = detection
        self._asked = {"binary_audio": binary, "echo_cancelled": not guarded}
        self._chunks_at: list[float] = []
        if not binary:
            self.frame_kind = WSMsgType.TEXT

    def path(self) -> str:
        return "/v1/realtime"

    def on_ws_connected(self, transport: WSTransport) -> None:
        super().on_ws_connected(transport)
        session = {
            "type": "realtime",
            "instructions": self.name,
            "audio": {"input": {"turn_detection": {"type": self._detection}}},
            "x_mimo": self._asked,
        }
        update = {"type": "session.update", "session": session}
        transport.send(WSMsgType.TEXT, json.dumps(update).encode())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        head = frame.get_payload_as_bytes()[:160]
        if b'"response.output_audio.delta"' in head:
            self._chunks_at.append(time.monotonic())
        elif b'"type":"error"' in head:
            self.trouble = frame.get_payload_as_utf8_text()

    def relay_ms(self, sent_at: Sequence[Sequence[float]]) -> list[float] | None:
        if sum(map(len, sent_at)) != len(self._chunks_at):
            return None
        came_at = iter(self._chunks_at)
        late_ms: list[float] = []
        for reply in sent_at:
            times = [1000 * (next(came_at) - sent) for sent in reply]
            late_ms += times[1:]
        return late_ms


class PeerCaller(Caller):
    """Sends sound, and is sent sound.

    Pipecat cuts the model's chunks into pieces and sends them at twice the speed of playback, which
    is no delay; so what is compared is the first chunk of each reply, with the first piece of it.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self._replies_at: list[float] = []
        self._last_at = 0.0

    def path(self) -> str:
        return f"/ws?caller={quote(self.name)}"

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.BINARY:
            now = time.monotonic()
            if now - self._last_at > PAUSE_S:
                self._replies_at.append(now)
            self._last_at = now

    def relay_ms(self, sent_at: Sequence[Sequence[float]]) -> list[float] | None:
        if len(sent_at) != len(self._replies_at):
            return None
        pairs = zip(sent_at, self._replies_at, strict=True)
        return [1000 * (came - reply[0]) for reply, came in pairs]


def microphone(binary: bool, speaks: bool = True) -> tuple[list[bytes], float]:
    """A turn as frames of the wire, a question and then the noise of a room; its speech's end, s.

    Args:
        binary: Whether frames are plain sound, or events of the protocol.
        speaks: Whether there is a question in it.
    """
    said = np.frombuffer(read_wav(recording(QUESTION)), np.int16)
    sound = np.random.default_rng(1).normal(0, NOISE, round(TURN_S * RATE))
    if speaks:
        sound[: len(said)] += said / 2**15
    pcm = pcm16(sound)
    frames = [pcm[i : i + FRAME_BYTES] for i in range(0, len(pcm), FRAME_BYTES)]
    if not binary:
        texts = (base64.b64encode(frame).decode() for frame in frames)
        appends = ({"type": "input_audio_buffer.append", "audio": text} for text in texts)
        frames = [json.dumps(append).encode() for append in appends]
    return frames, end_of_speech(said) / RATE
