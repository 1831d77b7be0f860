"""Voice activity detection over the wire, held against labels made by hand.

The server is asked for plain `server_vad` without answers; where it then says that speech
started and stopped is compared with the labels. Positions are counted in samples of the
microphone, so the clips may be sent faster than they were spoken.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from websockets.asyncio.client import ClientConnection

from agent.audio import RATE, samples_in
from client.dialogue.socket import UnreachableError, open_socket
from client.evaluation.figures import Figures, percentile
from client.evaluation.recordings import Labelled

SILENCE_MS = 200
"""Less would cut speech at consonants, more would join what is labelled apart."""
DETECTION = {
    "type": "server_vad",
    "prefix_padding_ms": 0,
    "silence_duration_ms": SILENCE_MS,
    "create_response": False,
}
CHUNK = samples_in(100)
"""More at once would be less like a microphone, less would only be more events."""
SPEED = 10
"""Times real time: more is done sooner, and asks more of the server at once."""
STEP_MS = 10
"""How finely what was found is compared with the labels."""
NEAR_MS = 500
"""A boundary further from a label is no finding of it."""
TAIL_S = 1.0
"""Silence after a clip, so that speech at its end ends."""

Spans = list[tuple[float, float]]
"""Stretches of speech: begin and end in milliseconds."""


@dataclass(frozen=True, slots=True)
class Detected:
    """What the server found in a clip."""

    clip: Labelled
    speech_ms: tuple[tuple[float, float], ...]


async def detect(url: str, clip: Labelled) -> Detected:
    """Have a server find the speech in a clip."""
    async with open_socket(url) as socket:
        session = {"type": "realtime", "audio": {"input": {"turn_detection": DETECTION}}}
        await _send(socket, {"type": "session.update", "session": session})
        while _event(await socket.recv())["type"] != "session.updated":
            pass
        async with asyncio.TaskGroup() as tasks:
            found = tasks.create_task(_find(socket))
            sound = np.concatenate((clip.sound, np.zeros(int(TAIL_S * RATE), np.int16)))
            for start in range(0, len(sound), CHUNK):
                pcm = sound[start : start + CHUNK].tobytes()
                await _send(socket, {"type": "input_audio_buffer.append", "audio": pcm})
                await asyncio.sleep(CHUNK / RATE / SPEED)
            # An answer to this comes after all that was found.
            await _send(socket, {"type": "input_audio_buffer.clear"})
        return Detected(clip, tuple(found.result()))


async def _send(socket: ClientConnection, event: dict[str, object]) -> None:
    await socket.send(msgspec.json.encode(event).decode())


def _event(frame: str | bytes) -> dict[str, object]:
    event = msgspec.json.decode(frame, type=dict[str, object])
    if event["type"] == "error":
        raise UnreachableError(f"the server refused: {event['error']}")
    return event


async def _find(socket: ClientConnection) -> Spans:
    found: Spans = []
    start = 0.0
    async for frame in socket:
        match _event(frame):
            case {"type": "input_audio_buffer.speech_started", "audio_start_ms": int(at)}:
                start = at
            case {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": int(at)}:
                # The silence that the verdict took belongs to the turn, not to the speech.
                found.append((start, at - SILENCE_MS))
            case {"type": "input_audio_buffer.cleared"}:
                break
            case _:
                pass
    return found


def vad_figures(detected: Iterable[Detected]) -> Figures:
    """Score steps of 10 ms, and the delays of the boundaries that were found."""
    hits = found = labelled = 0
    onsets: list[float] = []
    offsets: list[float] = []
    for each in detected:
        truth = [(start * 1000, end * 1000) for start, end in each.clip.speech_s]
        length_ms = len(each.clip.sound) * 1000 / RATE
        said, heard = _mask(truth, length_ms), _mask(each.speech_ms, length_ms)
        hits += int((said & heard).sum())
        found += int(heard.sum())
        labelled += int(said.sum())
        onsets += _delays([a for a, _ in truth], [a for a, _ in each.speech_ms])
        # Where a clip ends in speech there is no boundary to find.
        ends = [b for _, b in truth if b < length_ms - NEAR_MS]
        offsets += _delays(ends, [b for _, b in each.speech_ms])
    return {
        "vad_precision": round(hits / found, 4) if found else None,
        "vad_recall": round(hits / labelled, 4) if labelled else None,
        "vad_onset_delay_p50_ms": percentile(onsets, 50),
        "vad_offset_delay_p50_ms": percentile(offsets, 50),
    }


def _mask(spans: Iterable[tuple[float, float]], length_ms: float) -> npt.NDArray[np.bool_]:
    mask = np.zeros(int(length_ms / STEP_MS) + 1, np.bool_)
    for start, end in spans:
        mask[round(start / STEP_MS) : round(end / STEP_MS)] = True
    return mask


def _delays(labels: list[float], found: list[float]) -> list[float]:
    """For each label the delay of the nearest boundary, unless that belongs elsewhere."""
    nearest = [min((each - label for each in found), key=abs, default=None) for label in labels]
    return [delay for delay in nearest if delay is not None and abs(delay) <= NEAR_MS]
