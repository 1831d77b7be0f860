"""`mimo-live talk`: a spoken conversation, through the sound card or from WAV files."""

import argparse
import asyncio
import importlib
import importlib.util
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from agent.errors import AgentError
from client.dialogue.ducking import DUCK_DB
from client.dialogue.events import page_url
from client.kiosk.kiosk import Kiosk
from client.kiosk.view import KioskView
from client.live import Live, LiveOptions
from client.own_command import example_question, own_command
from client.processes import SERVER_URL, local_server
from client.recording import Recording, check_writable
from client.script import Script, ScriptOptions
from client.sound.clip import Clip
from client.sound.device_choice import list_devices, select
from client.sound.duplex import Duplex
from client.sound.native import unheard_libraries
from client.sound.portaudio import DeviceError, Names, find_portaudio
from client.terminal.background import Background
from client.terminal.lines import Terminal
from client.terminal.screen_state import ScreenState
from client.terminal.view import View

COULD_NOT_RUN = 1
"""Exit status."""
SCREEN = "client.terminal.screen"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

EXAMPLES = """\
examples:
  mimo-live talk
  mimo-live talk --headphones
  mimo-live talk --wav tests/data/weather_question.wav --save answer.wav
  mimo-live talk --wav tests/data/weather_question.wav --wav tests/data/no.wav --barge-in 0.5 --json

If the server needs an API key, put it in the environment variable MIMO_LIVE_API_KEY.

exit status: 0 every turn was answered, 1 could not run, 2 wrong usage, 3 a turn was not answered
"""


class Options(argparse.Namespace):
    url: str | None
    wav: list[Path]
    save: Path | None
    timeout: float
    barge_in: float | None
    instructions: str | None
    voice: str | None
    json: bool
    plain: bool
    devices: bool
    input: str | None
    output: str | None
    headphones: bool
    kiosk: bool
    duck_db: float


def main(argv: list[str]) -> int:
    """Talk; return the exit status that `--help` explains."""
    options = _parse(argv)
    with unheard_libraries():
        return _talk(options)


def _talk(options: Options) -> int:
    terminal = Terminal(sys.stdout, sys.stderr, as_json=options.json)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in SIGNALS[1:]:
        signal.signal(number, _as_interrupt)
    try:
        if options.devices:
            terminal.note(list_devices(find_portaudio()))
            return 0
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
    add(
        "--url",
        help="conversation server, ws://… or its page, http://…; without it, one is started here",
    )
    add("--instructions", help="instructions for the agent")
    add("--voice", help="the agent's voice, by its name on the server")
    add("--devices", action="store_true", help="list microphones and loudspeakers, and exit")
    add("--input", metavar="NAME", help="microphone to use, by part of its name; remembered")
    add("--output", metavar="NAME", help="loudspeaker to use, by part of its name; remembered")
    add("--headphones", action="store_true", help="turn off echo cancellation")
    add(
        "--duck-db",
        type=float,
        default=DUCK_DB,
        help="change of the agent's volume, in dB, while you may be interrupting",
    )
    add("--plain", action="store_true", help="plain lines instead of the live screen")
    add("--json", action="store_true", help="one JSON object per line, for scripts")
    add(
        "--kiosk",
        action="store_true",
        help="serve one visitor after another, unattended (docs/kiosk.md)",
    )
    files = parser.add_argument_group("from files")
    add = files.add_argument
    add("--wav", type=Path, action="append", default=[], help="WAV file to speak; may be repeated")
    add("--save", type=Path, help="save the conversation as a WAV file: user left, agent right")
    add("--timeout", type=float, default=30.0, help="seconds to wait for an answer to a turn")
    add(
        "--barge-in",
        type=float,
        help="interrupt each answer with the next file after this many seconds",
    )
    options = parser.parse_args(argv, Options())
    if not options.wav and (options.save or options.barge_in is not None):
        parser.error("--save and --barge-in need --wav")
    if options.kiosk and (options.wav or options.instructions or options.voice):
        parser.error("--kiosk cannot be combined with --wav, --instructions or --voice")
    return options


def _as_interrupt(_number: int, _frame: object) -> None:
    signal.raise_signal(signal.SIGINT)


def _server(options: Options, terminal: Terminal) -> AbstractContextManager[str]:
    return nullcontext(options.url) if options.url else local_server(terminal.progress)


def _from_files(options: Options, terminal: Terminal) -> int:
    clips = [Clip.read(path) for path in options.wav]
    check_writable(options.save)
    wishes = ScriptOptions(
        options.save,
        options.timeout,
        options.barge_in,
        options.instructions,
        options.voice,
        options.duck_db,
    )
    with _server(options, terminal) as url:
        return asyncio.run(Script(wishes, terminal, clips).run(url))


def _live(options: Options, terminal: Terminal) -> int:
    wished = Names(options.input, options.output)
    try:
        portaudio = find_portaudio()
    except DeviceError as error:
        if options.kiosk:
            raise
        return _without_devices(error, options, terminal)
    names, complaints = select(portaudio, wished)
    wishes = LiveOptions(options.instructions, options.duck_db, options.voice)

    def talk(view: View, recording: Recording | None = None) -> Live:
        duplex = Duplex(portaudio, names, options.headphones, view)
        return Live(duplex, wishes, view, recording)

    wants_screen = not options.kiosk and not options.plain
    with_screen = wants_screen and terminal.is_live and sys.stdin.isatty() and _has_screen()
    if with_screen:
        # It takes a moment to load: meanwhile the server starts.
        threading.Thread(target=importlib.import_module, args=(SCREEN,), daemon=True).start()
    with _server(options, terminal) as url:
        if with_screen:
            terminal.close()
            return _on_screen(url, talk, complaints)
        for complaint in complaints:
            terminal.problem(complaint)
        if options.kiosk:
            kiosk_view = KioskView(terminal, words=terminal.is_live or options.json)
            duplex = Duplex(portaudio, names, options.headphones, kiosk_view)
            return _in_lines(Kiosk(duplex, options.duck_db, kiosk_view).run(url), terminal)
        return _in_lines(talk(terminal).run(url), terminal)


def _has_screen() -> bool:
    return importlib.util.find_spec("textual") is not None


def _on_screen(url: str, talk: Callable[[View, Recording], Live], complaints: list[str]) -> int:
    screen_state, recording = ScreenState(), Recording(time.monotonic())
    for complaint in complaints:
        screen_state.problem(complaint)
    background = Background(talk(screen_state, recording), url)

    def end(_number: int, _frame: object) -> None:
        background.end()

    for number in SIGNALS:
        # A screen that is about to start would lose an interrupt.
        signal.signal(number, end)
    with _terminal_of_its_own():
        background.start()
        from client.terminal.screen import LiveScreen  # noqa: PLC0415 - an extra, and slow to load

        try:
            if background.alive:
                LiveScreen(background, screen_state, recording).run()
        finally:
            background.end()
            background.join()
    if background.failure is not None:
        raise background.failure
    return 0


@contextmanager
def _terminal_of_its_own() -> Generator[None]:
    """Have the screen drawn where the words of a conversation go."""
    before = sys.__stderr__
    with open(os.dup(1), "w", encoding="utf-8") as terminal:
        sys.__stderr__ = terminal  # textual draws here
        try:
            yield
        finally:
            sys.__stderr__ = before


def _in_lines(conversation: Coroutine[None, None, None], terminal: Terminal) -> int:
    try:
        asyncio.run(conversation)
    except KeyboardInterrupt:
        terminal.note("Goodbye.")
    return 0


def _without_devices(error: DeviceError, options: Options, terminal: Terminal) -> int:
    terminal.problem(f"Can't talk through a sound card here: {error}. Two other ways:")
    command, url = own_command(), options.url
    elsewhere = f" --url {shlex.quote(url)}" if url else ""
    terminal.note(f"  {command} talk{elsewhere} --wav {example_question()} --save answer.wav")
    if url is not None:
        terminal.note(f"  in a browser: {page_url(url)}")
        return COULD_NOT_RUN
    if not terminal.is_live:
        terminal.note(f"  in a browser: {page_url(SERVER_URL)}, once this runs:")
        terminal.note(f"  {command} model & {command} serve")
        return COULD_NOT_RUN
    with _server(options, terminal) as url:
        terminal.note(f"  in a browser: {page_url(url)}, until you press Ctrl-C.")
        try:
            signal.pause()
        except KeyboardInterrupt:
            terminal.note("Goodbye.")
    return 0
