"""A session on a script: what a client sends and a model says, and everything that comes of it.

A script is a JSON Lines file under `golden/events`. Lines `client`, `speech`, `model`,
`transcript` and `wait_s` are what happens; `server`, `ask`, `abort`, `transcribe` and `close` are
what the session does about it, in that order. `python -m tests.drivers.scripted` writes the latter
anew.
"""

import json
from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.audio import RATE, seconds
from agent.commands import AbortModel, AskModel, Close, Command, Overhear, Send, Transcribe
from agent.errors import ModelError
from agent.model.output import Ended, Failed, Output, Sound, Text, TextEnded, Usage
from agent.policy import Patience, Policy
from agent.realtime.config import SessionConfig
from tests.drivers.virtual_call import Call, opened

FOLDER = Path(__file__).parents[1] / "golden" / "events"
START_S = 100.0
PATIENT = Policy(Patience(30.0, 10.0), early_start_ms=200, longest_turn_ms=300_000)

Json = dict[str, Any]


@dataclass
class Scripted(Call):
    """A call whose client reads and writes JSON, with a log of all that the session did."""

    config: SessionConfig = field(default_factory=opened)
    policy: Policy = PATIENT
    ends_at: float = START_S + 3_600
    words: Sequence[str] = ()
    log: list[Json] = field(default_factory=list[Json])

    @property
    def server(self) -> list[Json]:
        """Every event of the server so far, sound included."""
        return [decoded(frame) for frame in self.frames]

    def types(self) -> list[str]:
        return [event["type"] for event in self.server]

    def send(self, event: Json) -> list[Json]:
        """Send an event; return what the server answered at once."""
        before = len(self.frames)
        self.receive(json.dumps(event))
        return self.server[before:]

    def _do(self, command: Command) -> None:
        super()._do(command)
        self.log.append(self._logged(command))

    def _logged(self, command: Command) -> Json:
        match command:
            case Send():
                return {"server": shortened(decoded(self.frames[-1]))}
            case AskModel():
                return {"ask": asked(command)}
            case AbortModel(response_id):
                return {"abort": response_id}
            case Transcribe(item_id, pcm):
                return {"transcribe": item_id, "ms": round(seconds(pcm) * 1000)}
            case Overhear(item_id, pcm):
                return {"overhear": item_id, "ms": round(seconds(pcm) * 1000)}
            case Close(code, reason):
                return {"close": code, "reason": reason}

    def play(self, line: Json) -> None:
        match line:
            case {"client": str(text)}:
                self.receive(text)
            case {"client": event}:
                self.send(event)
            case {"speech": [float(probability), int(count)]}:
                self.user([probability] * count)
            case {"model": output}:
                self.model(output_of(output))
            case {"transcript": str(words)}:
                self.transcript(self.transcribe[-1], words)
            case {"wait_s": wait_s}:
                self.wait(wait_s)
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
