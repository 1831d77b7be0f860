"""A session on a script: what a client sends and a model says, and everything that comes of it.

A script is a JSON Lines file under `golden/events`. Lines `client`, `speech`, `model`,
`transcript` and `wait_s` are what happens; `server`, `ask`, `abort`, `transcribe` and `close` are
what the session does about it, in that order. `python -m tests.drivers.scripted` writes the latter
anew.
"""

import json
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.audio import RATE, SAMPLE_BYTES, seconds
from agent.commands import AbortModel, AskModel, Close, Command, Overhear, Send, Transcribe, refuse
from agent.errors import ModelError, ProtocolError
from agent.hearing.buffer import FRAME_SAMPLES
from agent.model.output import Ended, Failed, Output, Sound, Text, TextEnded, Usage
from agent.policy import Patience, Policy
from agent.realtime import client_events as protocol, server_events as events
from agent.realtime.config import Audio, AudioInput, Extensions, SessionConfig, TurnDetection
from agent.session import Session

FOLDER = Path(__file__).parents[1] / "golden" / "events"
FRAME = bytes(FRAME_SAMPLES * SAMPLE_BYTES)
FRAME_S = 0.032
START_S = 100.0

Json = dict[str, Any]


def config(**changes: Any) -> SessionConfig:
    """A session as the server opens it."""
    fields: Json = {
        "id": "sess_1",
        "model": "gpt-realtime",
        "output_modalities": ["audio"],
        "instructions": "Be brief.",
        "audio": Audio(),
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "expires_at": 1_800_003_600,
    }
    return SessionConfig(**(fields | changes))


def session_config(detection: TurnDetection, ducks: bool) -> SessionConfig:
    """The same, by how turns are detected, and whether the client plays as ours does."""
    return config(
        audio=Audio(input=AudioInput(turn_detection=detection)),
        x_mimo=Extensions(duck=ducks, playout=ducks, marks=True),
    )


@dataclass
class Scripted:
    """Runs one session on a clock of its own."""

    timing: Policy = field(default_factory=lambda: Policy(Patience(30.0, 10.0), 200, 300_000))
    now: float = START_S
    log: list[Json] = field(default_factory=list[Json])
    frames: list[bytes] = field(default_factory=list[bytes])
    """Every server event as it goes over the wire."""
    asked: AskModel | None = None
    """The latest request to the model."""
    wish: Transcribe | None = None
    """The latest speech to be written down."""

    def __post_init__(self) -> None:
        self._ids: dict[str, int] = {}
        self.session = Session(config(), self.timing, self.new_id, START_S + 3_600)
        self.perform(self.session.open())

    def new_id(self, kind: str) -> str:
        self._ids[kind] = self._ids.get(kind, 0) + 1
        return f"{kind}_{self._ids[kind]}"

    @property
    def server(self) -> list[Json]:
        """Every event of the server so far, sound included."""
        return [decoded(frame) for frame in self.frames]

    def types(self) -> list[str]:
        return [event["type"] for event in self.server]

    def perform(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Send(event):
                    frame = events.encode(event, f"event_{len(self.frames) + 1}")
                    self.frames.append(frame)
                    self.log.append({"server": shortened(decoded(frame))})
                case AskModel():
                    self.asked = command
                    self.log.append({"ask": asked(command)})
                case AbortModel(response_id):
                    self.log.append({"abort": response_id})
                case Transcribe(item_id, pcm):
                    self.wish = command
                    self.log.append({"transcribe": item_id, "ms": round(seconds(pcm) * 1000)})
                case Overhear(item_id, pcm):
                    self.log.append({"overhear": item_id, "ms": round(seconds(pcm) * 1000)})
                case Close(code, reason):
                    self.log.append({"close": code, "reason": reason})

    def client(self, event: Json | str) -> list[Json]:
        """Send an event; return what the server answered at once."""
        before = len(self.frames)
        text = event if isinstance(event, str) else json.dumps(event)
        try:
            decoded_event = protocol.decode(text)
        except ProtocolError as error:
            self.perform([refuse(error)])
        else:
            self.perform(self.session.receive(decoded_event, self.now))
        return self.server[before:]

    def speak(self, probability: float, count: int = 1) -> None:
        """Let the microphone send frames of 32 ms."""
        for _ in range(count):
            self.advance(FRAME_S)
            self.session.append(protocol.InputAudioAppend(audio=FRAME))
            self.perform(self.session.judge_next_frame(probability, self.now))

    def model(self, output: Output, response_id: str | None = None) -> None:
        """Let the model answer the latest request."""
        assert self.asked is not None
        to = response_id or self.asked.response_id
        self.perform(self.session.from_model(to, output, self.now))

    def transcript(self, words: str) -> None:
        """Let the recogniser write down the user's latest turn."""
        assert self.wish is not None
        duration_s = seconds(self.wish.pcm)
        self.perform(self.session.transcribed(self.wish.item_id, words, duration_s))

    def advance(self, wait_s: float) -> None:
        """Let time pass; whatever falls due happens on the way."""
        until = self.now + wait_s
        while (due := self.session.deadline) is not None and due <= until:
            self.now = max(self.now, due)
            self.perform(self.session.pass_deadline(self.now))
            if any("close" in line for line in self.log[-1:]):
                break
        self.now = until

    def play(self, line: Json) -> None:
        match line:
            case {"client": event}:
                self.client(event)
            case {"speech": [float(probability), int(count)]}:
                self.speak(probability, count)
            case {"model": output}:
                self.model(output_of(output))
            case {"transcript": str(words)}:
                self.transcript(words)
            case {"wait_s": wait_s}:
                self.advance(wait_s)
            case _:
                raise AssertionError(f"not a line of a script: {line}")


def sound(duration_ms: int) -> Sound:
    return Sound(b"\x01\x00" * (RATE * duration_ms // 1000))


def output_of(line: Json) -> Output:
    match line:
        case {"text": str(text)}:
            return Text(text)
        case {"sound_ms": int(duration_ms)}:
            return sound(duration_ms)
        case {"failed": str(message)}:
            return Failed(ModelError(message))
        case {"text_ended": reason}:
            return TextEnded(cut_short=reason == "cut short")
        case {"ended": "cut short"}:
            return Ended(cut_short=True)
        case {"ended": [int(read), int(said)]}:
            return Ended(Usage(read, said))
        case _:
            return Ended()


def decoded(frame: bytes) -> Json:
    return json.loads(frame.split(b"\n", 1)[0])


def shortened(event: Json) -> Json:
    """The event with the length of its sound instead of the sound."""
    if event["type"] != "response.output_audio.delta" or "delta" not in event:
        return event
    return event | {"delta": f"{len(b64decode(event['delta']))} bytes"}


def asked(ask: AskModel) -> Json:
    messages: list[list[object]] = []
    for each in ask.messages:
        spoken = [f"{round(seconds(each.pcm) * 1000)} ms"] if each.pcm else []
        messages.append([each.role, *([each.text] if each.text else []), *spoken])
    told: Json = {"response_id": ask.response_id, "modality": ask.modality, "messages": messages}
    if ask.max_tokens is not None:
        told["max_tokens"] = ask.max_tokens
    if ask.tools:
        told["tools"] = list(ask.tools)
    return told


HAPPENS = {"client", "speech", "model", "transcript", "wait_s"}


def read(script: Path) -> list[Json]:
    return [json.loads(line) for line in script.read_text().splitlines() if line]


def replayed(lines: list[Json]) -> Iterator[Json]:
    """The script once more, with what the session does now."""
    scripted = Scripted()
    yield from scripted.log
    for line in lines:
        if not (HAPPENS | {"note"}) & line.keys():
            continue
        yield line
        done = len(scripted.log)
        if "note" not in line:
            scripted.play(line)
        yield from scripted.log[done:]


def scripts() -> list[Path]:
    return sorted(FOLDER.glob("*.jsonl"))


def main() -> None:
    for script in scripts():
        lines = [json.dumps(line, ensure_ascii=False) for line in replayed(read(script))]
        script.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
