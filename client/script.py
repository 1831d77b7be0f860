"""A conversation from WAV files: what `mimo-live talk --wav` does.

Everything goes as if a person spoke and listened: sound is sent at the pace of a clock and the
answer is "played" through the same jitter buffer, 20 ms at a time.
"""

import asyncio
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agent.errors import AgentError
from client.clip_player import ClipPlayer, ticks
from client.dialogue.call import Call
from client.dialogue.connection import open_connection
from client.sound.clip import FRAME_SAMPLES, Clip, stereo
from client.tasks import together
from client.terminal.lines import Terminal

ANSWERED, UNANSWERED = 0, 3
"""Exit status: every turn was answered, or one was not."""

LEAD_S = 0.3
"""Silence before the first file, as before any first word."""


class ScriptOptions(NamedTuple):
    save: Path | None
    timeout_s: float
    barge_in_s: float | None
    instructions: str | None
    voice: str | None
    duck_db: float


class Script:
    """A conversation from files."""

    def __init__(self, options: ScriptOptions, terminal: Terminal, clips: list[Clip]):
        self._options = options
        self._terminal = terminal
        self._clips = clips
        self._turn = 0

    async def run(self, url: str) -> int:
        async with open_connection(url) as connection:
            # What is played is not heard by anybody.
            wanted = ("playout", "duck", "marks", "echo_cancelled")
            options = self._options
            await connection.start_session(options.instructions, wanted, options.voice)
            clock = asyncio.get_running_loop().time
            voice = ClipPlayer(connection.append, clock())
            ended_at, duck_db = lambda: voice.speech_ended_at, self._options.duck_db
            call = Call(connection, self._terminal, clock, ended_at, int, duck_db=duck_db)
            heard = bytearray()
            try:
                async with together() as tasks:
                    others = [
                        tasks.create_task(call.receive()),
                        tasks.create_task(voice.speak()),
                        tasks.create_task(_listen(call, heard, voice.began)),
                    ]
                    status = await self._turns(call, voice)
                    for task in others:
                        task.cancel()
            except AgentError as error:
                status = self._gave_up(error)
            if self._options.save is not None:
                self._options.save.write_bytes(stereo(voice.said, heard))
            return status

    async def _turns(self, call: Call, voice: ClipPlayer) -> int:
        await asyncio.sleep(LEAD_S)
        for clip in self._clips:
            self._turn += 1
            call.floor.turn = call.floor.failure = None
            voice.say(clip)
            reason = await self._answered(call, voice)
            turn = call.floor.turn
            latency = turn and turn.latency()
            if reason is not None or latency is None:
                self._terminal.unanswered(self._turn, clip.name, reason or "no sound came")
                return UNANSWERED
            self._terminal.turn(self._turn, clip.name, latency)
        return ANSWERED

    async def _answered(self, call: Call, voice: ClipPlayer) -> str | None:
        """Wait until the next file may be spoken; return why not, if the answer fails to come."""
        floor, clock = call.floor, asyncio.get_running_loop().time
        barge_in_s = self._options.barge_in_s if self._turn < len(self._clips) else None
        async for _ in ticks(clock()):
            now = clock()
            heard_at = floor.turn and floor.turn.heard_at
            if not voice.silent:
                continue
            if heard_at is not None:
                if barge_in_s is not None and now >= heard_at + barge_in_s:
                    return None
                if call.jitter.idle and floor.is_settled(now):
                    return None
            elif floor.turn is not None and not floor.answer_due and call.jitter.idle:
                return floor.failure or "the answer had no audio"
            waiting_since = max(voice.speech_ended_at, floor.changed_at)
            if not call.jitter.buffered and now > waiting_since + self._options.timeout_s:
                return floor.missing(self._options.timeout_s)
        raise AssertionError("ticks never end")

    def _gave_up(self, error: AgentError) -> int:
        """A connection lost before the first word could not run; later it owes an answer."""
        if not self._turn:
            raise error
        self._terminal.unanswered(self._turn, self._clips[self._turn - 1].name, str(error))
        return UNANSWERED


async def _listen(call: Call, heard: bytearray, began: float) -> None:
    frame = np.zeros(FRAME_SAMPLES, np.int16)
    async for _ in ticks(began):
        call.pull(frame)
        heard += frame.tobytes()
        await call.report()
