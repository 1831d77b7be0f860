"""`mimo-live talk`: a spoken conversation, through the sound card or from WAV files.

From files, everything goes as if a person spoke and listened: sound is sent at the pace of
a clock and the answer is "played" through the same jitter buffer, 20 ms at a time.
"""

import argparse
import asyncio
import itertools
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from agent.errors import AgentError
from client import devices
from client.cli import SERVER_URL, local_server
from client.connection import Call, Connection, open_connection
from client.devices import DeviceError, Loudspeaker, Microphone, PortAudio, Voice, ticks
from client.latency import FRAME_SAMPLES, Clip, LiveSpeech, Turn, level, stereo
from client.terminal import Terminal

COULD_NOT_RUN, UNANSWERED = 1, 3
LEAD_S = 0.3
"""Silence before the first file, as before any first word."""
PUMP_S = 0.01
SCREEN_S = 0.1

EXAMPLES = """\
examples:
  mimo-live talk                                start everything here and talk
  mimo-live talk --url ws://box:8080            talk with a server that runs elsewhere
  mimo-live talk --wav question.wav --save answer.wav
  mimo-live talk --wav one.wav --wav two.wav --barge-in 1.5 --json

exit status: 0 every turn was answered, 1 could not run, 2 wrong usage, 3 a turn was not answered
"""


class Options(argparse.Namespace):
    url: str | None
    wav: list[Path]
    save: Path | None
    timeout: float
    barge_in: float | None
    instructions: str | None
    json: bool


def main(argv: list[str]) -> int:
    """Talk; return the exit status that `--help` explains."""
    options = _parse(argv)
    terminal = Terminal(sys.stdout, sys.stderr, as_json=options.json)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _as_interrupt)
    try:
        return _from_files(options, terminal) if options.wav else _live(options, terminal)
    except (AgentError, OSError) as error:
        terminal.problem(str(error))
        return COULD_NOT_RUN
    finally:
        terminal.close()


def _parse(argv: list[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="mimo-live talk",
        description="Talk through microphone and loudspeaker, or from WAV files.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--url", help="a conversation server, ws://…; without it one is started here")
    add("--instructions", help="what the agent is to be like")
    add("--wav", type=Path, action="append", default=[], help="speak this file; may be repeated")
    add("--save", type=Path, help="save what was said: a WAV file, user left, agent right")
    add("--timeout", type=float, default=30.0, help="seconds until a turn counts as unanswered")
    add("--barge-in", type=float, help="speak the next file so many seconds into each answer")
    add("--json", action="store_true", help="one JSON object a line, for scripts")
    options = parser.parse_args(argv, Options())
    if not options.wav and (options.save or options.barge_in is not None or options.json):
        parser.error("--save, --barge-in and --json go with --wav")
    return options


def _as_interrupt(_number: int, _frame: object) -> None:
    signal.raise_signal(signal.SIGINT)


def _server(options: Options, terminal: Terminal) -> AbstractContextManager[str]:
    return nullcontext(options.url) if options.url else local_server(terminal.progress)


def _from_files(options: Options, terminal: Terminal) -> int:
    clips = [Clip.read(path) for path in options.wav]
    with _server(options, terminal) as url:
        return asyncio.run(Script(options, terminal, clips).run(url))


class Script:
    """A conversation from files."""

    def __init__(self, options: Options, terminal: Terminal, clips: list[Clip]):
        self._options = options
        self._terminal = terminal
        self._clips = clips
        self._turn = 0

    async def run(self, url: str) -> int:
        async with open_connection(url) as connection:
            await connection.start_session(self._options.instructions)
            clock = asyncio.get_running_loop().time
            voice = Voice(connection.append, clock())
            call = Call(connection, self._terminal, clock, lambda: voice.speech_ended_at, int)
            heard = bytearray()
            try:
                async with asyncio.TaskGroup() as tasks:
                    others = [
                        tasks.create_task(call.follow()),
                        tasks.create_task(voice.speak()),
                        tasks.create_task(_listen(call, heard, voice.began)),
                    ]
                    status = await self._turns(call, voice)
                    for task in others:
                        task.cancel()
            except ExceptionGroup as failures:
                status = self._gave_up(_only_foreseen(failures))
            if self._options.save is not None:
                self._options.save.write_bytes(stereo(voice.said, heard))
            return status

    async def _turns(self, call: Call, voice: Voice) -> int:
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
        return 0

    async def _answered(self, call: Call, voice: Voice) -> str | None:
        """Wait until the next file may be spoken; return why not, if the answer fails to come."""
        floor, clock = call.floor, asyncio.get_running_loop().time
        barge_in_s = self._options.barge_in if self._turn < len(self._clips) else None
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
                return floor.failure or "the answer had no sound"
            waiting_since = max(voice.speech_ended_at, floor.changed_at)
            if not call.jitter.buffered and now > waiting_since + self._options.timeout:
                return floor.missing(self._options.timeout)
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


def _live(options: Options, terminal: Terminal) -> int:
    try:
        portaudio = devices.find_portaudio()
    except DeviceError as error:
        return _without_devices(error, options, terminal)
    with _server(options, terminal) as url:
        try:
            asyncio.run(_converse(url, portaudio, options, terminal))
        except KeyboardInterrupt:
            terminal.note("Goodbye.")
    return 0


def _without_devices(error: DeviceError, options: Options, terminal: Terminal) -> int:
    terminal.problem(f"Can't talk through a sound card here: {error}. Two other ways:")
    terminal.note("  mimo-live talk --wav question.wav --save answer.wav")
    terminal.note(
        f"  the page of `mimo-live serve`, {_page(options.url or SERVER_URL)} in a browser"
    )
    if options.url is not None or not terminal.is_live:
        return COULD_NOT_RUN
    with _server(options, terminal) as url:
        terminal.note(f"The page is ready at {_page(url)} until you press Ctrl-C.")
        try:
            signal.pause()
        except KeyboardInterrupt:
            terminal.note("Goodbye.")
    return 0


def _page(url: str) -> str:
    where = urlsplit(url)
    return f"{'https' if where.scheme == 'wss' else 'http'}://{where.netloc}/"


async def _converse(url: str, portaudio: PortAudio, options: Options, terminal: Terminal) -> None:
    """Talk through the sound card until cancelled."""
    clock = asyncio.get_running_loop().time
    speech = LiveSpeech()
    async with open_connection(url) as connection:
        await connection.start_session(options.instructions)
        with devices.open_devices(portaudio) as (microphone, loudspeaker):
            ended_at, delay = speech.ended_at, lambda: loudspeaker.delay_samples
            call = Call(connection, terminal, clock, ended_at, delay)
            meters = Meters()
            terminal.note("Speak now. Headphones keep the agent from hearing itself. Ctrl-C ends.")
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(call.follow())
                    tasks.create_task(_speak(connection, microphone, call, speech, meters))
                    tasks.create_task(_play(call, loudspeaker, terminal, meters))
                    tasks.create_task(_show(call, terminal, meters))
            except ExceptionGroup as failures:
                raise _only_foreseen(failures) from None


@dataclass
class Meters:
    """How loud both sides are now: root mean squares from 0.0 to 1.0."""

    microphone: float = 0.0
    loudspeaker: float = 0.0


async def _speak(
    connection: Connection, microphone: Microphone, call: Call, speech: LiveSpeech, meters: Meters
) -> None:
    clock = asyncio.get_running_loop().time
    async for _ in ticks(clock(), PUMP_S):
        if pcm := microphone.read():
            meters.microphone = level(np.frombuffer(pcm, np.int16))
            speech.add(clock(), meters.microphone, call.floor.user_speaks)
            await connection.append(pcm)


async def _play(call: Call, loudspeaker: Loudspeaker, terminal: Terminal, meters: Meters) -> None:
    frame = np.zeros(FRAME_SAMPLES, np.int16)
    reported: Turn | None = None
    numbers = itertools.count(1)
    async for _ in ticks(asyncio.get_running_loop().time(), PUMP_S):
        while loudspeaker.room >= FRAME_SAMPLES:
            call.pull(frame)
            loudspeaker.write(frame)
            meters.loudspeaker = level(frame)
        turn = call.floor.turn
        if turn is not reported and turn is not None and (latency := turn.latency()):
            reported = turn
            terminal.turn(next(numbers), None, latency)


async def _show(call: Call, terminal: Terminal, meters: Meters) -> None:
    async for _ in ticks(asyncio.get_running_loop().time(), SCREEN_S):
        if call.jitter.buffered:
            state = "speaking"
        else:
            waiting = call.floor.answer_due and not call.floor.user_speaks
            state = "thinking" if waiting else "listening"
        terminal.status(state, meters.microphone, meters.loudspeaker)


def _only_foreseen(failures: ExceptionGroup) -> AgentError:
    """The first failure of tasks that ended together; a bug among them is raised."""
    foreseen, bugs = failures.split(AgentError)
    if foreseen is None or bugs is not None:
        raise failures
    first = foreseen.exceptions[0]
    assert isinstance(first, AgentError)
    return first
