"""The command `mimo-live`: which programs there are.

The one place that knows every program by name. Programs are imported only when run, so
that talking to a server elsewhere needs nothing of the server's packages.
"""

import importlib
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext, redirect_stdout
from importlib import metadata
from typing import NamedTuple, cast

from client.own_command import pasteable
from client.processes import ENDS_WITH_STDIN, GRACE_S

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells count it: 128 and the signal's number."""


class Program(NamedTuple):
    module: str
    summary: str


PROGRAMS = {
    "talk": Program("client.talk", "talk through microphone and loudspeaker, or from WAV files"),
    "ask": Program(
        "client.ask.ask", "send one request to the model server, without a conversation"
    ),
    "serve": Program("server.command", "run the conversation server, with a page for browsers"),
    "model": Program(
        "server.embedded.app",
        "run the small speech model, which needs no GPU; with --gpu, MiMo-Audio",
    ),
    "eval": Program("client.evaluation.evaluation", "measure turn-taking with a simulated caller"),
    "replay": Program(
        "client.evaluation.replay", "replay a recorded session and compare its decisions"
    ),
}
ON_A_GPU = Program("server.gpu.launch", "MiMo-Audio itself, on vLLM-Omni")

EXAMPLES = """\
examples:
  mimo-live talk
  mimo-live talk --wav tests/data/weather_question.wav --save answer.wav
  mimo-live eval --quick
  mimo-live serve --config configs/local.toml
  mimo-live talk --help
"""


def main(argv: list[str] | None = None) -> int:
    """Run the program that `argv` names; return its exit status, 2 if there is none."""
    words = sys.argv[1:] if argv is None else argv
    match words:
        case ["-h" | "--help", *_]:
            print(pasteable(_help()))
            return 0
        case ["--version", *_]:
            print(f"mimo-live {_version()}")
            return 0
        case ["model", *rest] if "--gpu" in rest:
            return _run(ON_A_GPU, rest)
        case [name, *rest] if name in PROGRAMS:
            return _run(PROGRAMS[name], rest)
        case _:
            problem = f"no command {words[0]!r}" if words else "no command given"
            print(f"mimo-live: {problem}; choose from: {', '.join(PROGRAMS)}", file=sys.stderr)
            print(pasteable("Run `mimo-live --help` for what each one does."), file=sys.stderr)
            return 2


def _run(program: Program, argv: list[str]) -> int:
    if os.environ.pop(ENDS_WITH_STDIN, None):
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that lacks some letter shows a question mark, and ends nothing.
            stream.reconfigure(errors="replace")
    try:
        run = cast(Callable[[list[str]], int], importlib.import_module(program.module).main)
        with _pasteable_help() if {"-h", "--help"} & set(argv) else nullcontext():
            return run(argv)
    except KeyboardInterrupt:
        return INTERRUPTED


@contextmanager
def _pasteable_help() -> Generator[None]:
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        print(pasteable(printed.getvalue()), end="")


def _end_with_stdin() -> None:
    """End this process and its children once standard input closes.

    The starter holds the other end and never writes. The system closes it however the
    starter ends, so not even a killed one leaves a model behind in memory.
    """
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE_S)
    os.killpg(0, signal.SIGKILL)


def _version() -> str:
    try:
        return metadata.version("mimo-live")
    except metadata.PackageNotFoundError:
        return "(not installed, running from source)"


def _help() -> str:
    width = max(map(len, PROGRAMS))
    lines = [f"  {name:{width}}  {program.summary}" for name, program in PROGRAMS.items()]
    return "\n".join(
        ["usage: mimo-live COMMAND [OPTION ...]", "", "commands:", *lines, "", EXAMPLES.rstrip()]
    )


if __name__ == "__main__":
    sys.exit(main())
