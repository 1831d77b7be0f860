"""The turns of a recorded session: how soon each was answered, and what became of the answer.

Pure. Times are the server's: what the network and the playing add isn't in them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from agent.audio import RATE, Samples
from agent.trace.inputs import Returned
from agent.trace.replay import Step
from client.dialogue.latency import LiveSpeech, Turn
from client.sound.clip import FRAME_SAMPLES, level

HEAD = ("turn", "at", "endpointing", "model", "answered after", "answer")


@dataclass(slots=True)
class _Answered:
    """A turn with its answer."""

    turn: Turn
    spoken: bool
    sent: int = 0
    """Samples of the answer, at 24 kHz."""
    heard_ms: int | None = None
    """How much of it was heard, if it was cut."""
    status: str = "none"


@dataclass(frozen=True, slots=True)
class _CameBack:
    at_s: float


@dataclass(slots=True)
class ReplayTurns:
    """Collects the turns of one session."""

    _rows: list[_Answered | _CameBack] = field(default_factory=list[_Answered | _CameBack])
    _open: _Answered | None = None
    _speech: LiveSpeech = field(default_factory=LiveSpeech)
    _user_speaks: bool = False
    _answers: dict[str, _Answered] = field(default_factory=dict[str, _Answered])
    """By the ids of their responses and items."""

    def add(self, step: Step, pcm: bytes) -> None:
        """Take what was recorded of a step, and the sound of the microphone that came in it."""
        self._hear(np.frombuffer(pcm, "<i2"), step.since_s)
        if isinstance(step.taken, Returned):
            self._rows.append(_CameBack(step.since_s))
        for line in step.recorded:
            if line.source == "server":
                self._follow(msgspec.json.decode(line.what), step.since_s)

    def _hear(self, sound: Samples, ended_at: float) -> None:
        for start in range(0, len(sound), FRAME_SAMPLES):
            frame = sound[start : start + FRAME_SAMPLES]
            after = len(sound) - start - len(frame)
            self._speech.add(ended_at - after / RATE, level(frame), self._user_speaks)

    def _follow(self, event: dict[str, Any], at_s: float) -> None:
        match event:
            case {"type": "input_audio_buffer.speech_started"}:
                self._user_speaks = True
            case {"type": "input_audio_buffer.committed"}:
                self._user_speaks = False
                ended_at = self._speech.ended_at() if self._speech.has_heard else at_s
                self._begin(Turn(ended_at, at_s), spoken=True)
            case {"type": "response.created", "response": {"id": str(response_id)}}:
                if self._open is None:
                    self._begin(Turn(at_s, at_s), spoken=False)
                assert self._open is not None
                self._answers[response_id], self._open = self._open, None
            case {"type": "response.output_audio.delta", "delta": int(count)}:
                answer = self._answers[event["response_id"]]
                self._answers[event["item_id"]] = answer
                if not answer.sent:
                    answer.turn.first_audio_at = answer.turn.heard_at = at_s
                answer.sent += count
            case {"type": "conversation.item.truncated", "item_id": str(item_id)}:
                if item_id in self._answers:
                    self._answers[item_id].heard_ms = event["audio_end_ms"]
            case {"type": "response.done", "response": {"id": str(response_id)}}:
                self._answers[response_id].status = event["response"]["status"]
            case _:
                pass

    def _begin(self, turn: Turn, *, spoken: bool) -> None:
        self._open = _Answered(turn, spoken)
        self._rows.append(self._open)

    def table(self) -> str:
        """One line a turn, in columns."""
        lines = [HEAD, *self._texts()]
        *widths, _ = (max(map(len, column)) for column in zip(*lines, strict=True))
        return "\n".join(
            "  ".join([*map(str.rjust, texts, widths), answer]).rstrip() for *texts, answer in lines
        )

    def _texts(self) -> Iterator[tuple[str, ...]]:
        number = 0
        for row in self._rows:
            match row:
                case _CameBack(at_s):
                    yield "", _at(at_s), "", "", "", "the client came back"
                case _Answered(turn):
                    number += 1
                    yield str(number), _at(turn.committed_at), *_latency(row), _answer(row)


def _at(at_s: float) -> str:
    return f"{at_s:.2f} s"


def _latency(row: _Answered) -> tuple[str, str, str]:
    latency = row.turn.latency()
    if latency is None:
        return "", "", ""
    endpointing = f"{latency.endpointing_ms} ms" if row.spoken else ""
    return endpointing, f"{latency.model_ms} ms", f"{latency.voice_to_voice_ms} ms"


def _answer(row: _Answered) -> str:
    length = f"{row.sent / RATE:.1f} s"
    if row.heard_ms is not None:
        length = f"{row.heard_ms / 1000:.1f} of {length} heard"
    return f"{row.status}, {length}" if row.sent else row.status
