"""`python -m tests.bench.history`: what a turn costs the server after so many turns.

One conversation with the real server, whose model is a stand-in that answers at once. A turn is
2.5 s of sound that no turn had before, sent as fast as it is taken and committed by the client, so
that nothing of its cost is listening: that would be the same for every turn, and most of it. The
history is sound on both sides, and none of it is dropped: the model's context is as large as the
setting allows.
"""

import argparse
import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from agent.audio import read_wav
from tests.bench.server import FRAME_BYTES
from tests.bench.servers import OURS, running
from tests.drivers.model_client import recording
from tests.drivers.processes import precise_busy_s
from tests.fakes import stand_in

TURNS = (1, 5, 20, 50, 100)
BAR = 1.2
"""The most that a turn after 100 may cost, as a multiple of one after 5."""
CONFIG = "[model]\ncontext_tokens = 131072\n"
ANSWER_GROUPS = 29


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn, by how many were before it."""

    before: int
    cpu_ms: float
    """Of the server, from the first frame of the question to the end of the answer."""
    asked_ms: float
    """From the commit to the request at the model's socket."""
    request_kb: float


def measure(conversations: int) -> list[Turn]:
    """Hold so many conversations, one after the other; return the turns of all."""
    turns: list[Turn] = []
    with (
        stand_in(groups=ANSWER_GROUPS) as model,
        running(OURS, model.url, CONFIG) as (url, server),
    ):
        for number in range(conversations):
            costs = asyncio.run(_talk(url, server, number))
            chats = model.chats[-len(costs) :]
            for before, (cpu_ms, committed_at) in enumerate(costs):
                asked_ms = 1000 * (chats[before].began_at - committed_at)
                turns.append(Turn(before, cpu_ms, asked_ms, len(chats[before].raw) / 1000))
            model.requests.clear()
    return [each for each in turns if each.before in TURNS]


async def _talk(url: str, server: int, number: int) -> list[tuple[float, float]]:
    """Hold one; return each turn's processor time, ms, and when it was committed."""
    said = np.frombuffer(read_wav(recording("weather_question.wav")), np.int16)
    chance = np.random.default_rng(number)
    costs: list[tuple[float, float]] = []
    async with connect(f"{url}/v1/realtime", max_size=None) as socket:
        session = {
            "type": "realtime",
            "audio": {"input": {"turn_detection": None}},
            "x_mimo": {"binary_audio": True, "echo_cancelled": True},
        }
        await _send(socket, {"type": "session.update", "session": session})
        await _until(socket, "session.updated")
        for _ in range(max(TURNS) + 1):
            # The server knows sound that it has had, and the model has it already.
            pcm = (said // 2 + chance.integers(-20, 20, len(said))).astype("<i2").tobytes()
            before = precise_busy_s(server)
            for start in range(0, len(pcm), FRAME_BYTES):
                await socket.send(pcm[start : start + FRAME_BYTES])
            committed_at = time.monotonic()
            await _send(socket, {"type": "input_audio_buffer.commit"})
            await _send(socket, {"type": "response.create"})
            await _until(socket, "response.done")
            costs.append((1000 * (precise_busy_s(server) - before), committed_at))
    return costs


async def _send(socket: ClientConnection, event: dict[str, Any]) -> None:
    await socket.send(json.dumps(event))


async def _until(socket: ClientConnection, kind: str) -> None:
    async for frame in socket:
        if isinstance(frame, bytes):
            continue
        event = json.loads(frame)
        assert event["type"] != "error", frame
        if event["type"] == kind:
            return


def table(turns: list[Turn]) -> str:
    """Medians for each length of history, and the bar."""
    lines = [
        "| turns before | CPU of the server, ms a turn | turn over → request, ms | request, kB |",
        "|---|---|---|---|",
    ]
    medians: dict[int, tuple[float, float, float]] = {}
    for before in TURNS:
        of_them = [each for each in turns if each.before == before]
        values = [(each.cpu_ms, each.asked_ms, each.request_kb) for each in of_them]
        cpu_ms, asked_ms, request_kb = map(float, np.median(values, axis=0))
        medians[before] = cpu_ms, asked_ms, request_kb
        lines.append(f"| {before} | {cpu_ms:.1f} | {asked_ms:.1f} | {request_kb:.0f} |")
    ratios = [late / early for late, early in zip(medians[100], medians[5], strict=True)]
    lines.append("")
    lines.append(
        f"A turn after 100, by one after 5: CPU {ratios[0]:.2f}, turn over → request "
        f"{ratios[1]:.2f} (to be {BAR} at most)."
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.history", description=__doc__)
    parser.add_argument("--conversations", type=int, default=9, help="in a row (%(default)s)")
    options = parser.parse_args()
    print(table(measure(options.conversations)))


if __name__ == "__main__":
    main()
