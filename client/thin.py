"""The smallest client that holds a conversation: one loop, G.711 at 8 kHz, no arrays.

A model for microcontrollers (docs/embedded-clients.md). Every 20 ms it sends what the microphone
gave and plays what has come, and in between it reads. Files stand for both ends of sound.
"""

import argparse
import base64
import json
import os
import sys
import time
import wave
from contextlib import suppress
from typing import Any

from websockets.sync.client import connect

from agent.errors import SettingsError
from agent.keys import read_key
from agent.network.proxies import proxy_for

RATE = 8_000
"""As telephones have it."""
FRAME_SAMPLES = 160
"""20 ms; in G.711 as many bytes."""
SILENCE = b"\xff"
BIAS, CLIP = 132, 32_635
"""Of G.711: what makes every segment begin with a one, and the largest sample that it fits to."""
G711 = {"format": {"type": "audio/pcmu"}}
FORMATS = {"input": G711, "output": G711}


def encode(sample: int) -> int:
    """One sample of 16 bits as a byte of G.711, mu-law."""
    magnitude = min(abs(sample), CLIP) + BIAS
    exponent = magnitude.bit_length() - 8
    return ~((sample < 0) << 7 | exponent << 4 | magnitude >> exponent + 3 & 15) & 255


def decode(byte: int) -> int:
    """The sample of 16 bits that a byte of G.711, mu-law, stands for."""
    exponent, mantissa = ~byte >> 4 & 7, ~byte & 15
    magnitude = ((mantissa << 3) + BIAS << exponent) - BIAS
    return magnitude if byte & 128 else -magnitude


class Call:
    """The sound that waits to be played, and whose it is."""

    def __init__(self, socket: Any):
        self._socket = socket
        self._waiting = bytearray()
        self._item_id, self._played = "", 0
        self.recording = bytearray()
        self.is_ready = self.is_answered = False

    @property
    def is_over(self) -> bool:
        return self.is_answered and not self._waiting

    def send(self, kind: str, **fields: object) -> None:
        self._socket.send(json.dumps({"type": kind, **fields}))

    def play(self) -> None:
        frame = bytes(self._waiting[:FRAME_SAMPLES])
        del self._waiting[:FRAME_SAMPLES]
        self._played += len(frame)
        self.recording += frame.ljust(FRAME_SAMPLES, SILENCE)

    def receive(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "session.updated":
                self.is_ready = True
            case "response.output_audio.delta":
                if event["item_id"] != self._item_id:
                    self._item_id, self._played = event["item_id"], 0
                self._waiting += base64.b64decode(event["delta"])
            case "input_audio_buffer.speech_started":
                self._fall_silent()
            case "response.done":
                self.is_answered = event["response"]["status"] != "cancelled"
            case "error":
                raise SystemExit(f"thin: {event['error']['message']}")
            case _:
                pass

    def _fall_silent(self) -> None:
        """The user cuts in: the server is sent how much was heard, and forgets the rest."""
        self.is_answered = False
        if self._waiting:
            heard_ms = self._played * 1000 // RATE
            cut = {"item_id": self._item_id, "content_index": 0, "audio_end_ms": heard_ms}
            self.send("conversation.item.truncate", **cut)
            self._waiting.clear()


def talk(socket: Any, said: bytes) -> bytes:
    """Say something in G.711, hear the answer to its end, and return all that was played."""
    call = Call(socket)
    call.send("session.update", session={"type": "realtime", "audio": FORMATS})
    while not call.is_ready:
        call.receive(json.loads(socket.recv()))
    due = time.monotonic()
    while said or not call.is_over:
        frame, said = said[:FRAME_SAMPLES].ljust(FRAME_SAMPLES, SILENCE), said[FRAME_SAMPLES:]
        call.send("input_audio_buffer.append", audio=base64.b64encode(frame).decode())
        call.play()
        due += FRAME_SAMPLES / RATE
        with suppress(TimeoutError):
            while True:
                call.receive(json.loads(socket.recv(max(0.0, due - time.monotonic()))))
    return bytes(call.recording)


def _key(text: str) -> str:
    try:
        return read_key(text, "--key")
    except SettingsError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m client.thin", description=__doc__)
    parser.add_argument("--url", default="ws://127.0.0.1:8080/v1/realtime")
    parser.add_argument("--key", type=_key, default="none", help="the server's API key")
    parser.add_argument("--wav", required=True, help="what to say: mono, 16 bits, 8 kHz")
    parser.add_argument("--save", required=True, help="file for the answer, in the same form")
    arguments = parser.parse_args(argv)
    with wave.open(arguments.wav) as file:
        if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, RATE):
            raise SystemExit(f"thin: {arguments.wav}: not mono with 16 bits at 8 kHz")
        samples = memoryview(file.readframes(file.getnframes())).cast("h")
    shown = {"Authorization": f"Bearer {arguments.key}"}
    proxy = proxy_for(arguments.url, os.environ)
    with connect(arguments.url, additional_headers=shown, proxy=proxy) as socket:
        heard = talk(socket, bytes(map(encode, samples)))
    with wave.open(arguments.save, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(
            b"".join(decode(byte).to_bytes(2, "little", signed=True) for byte in heard)
        )


if __name__ == "__main__":
    main(sys.argv[1:])
