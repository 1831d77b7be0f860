"""The command `mimo-live`: which programs there are, and how one starts another.

The one place that knows every program by name. Programs are imported only when run, so
that talking to a server elsewhere needs nothing of the server's packages.
"""

import importlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout, suppress
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, cast
from urllib.parse import urlsplit

from agent.errors import AgentError
from client.own_command import pasteable

ENDS_WITH_STDIN = "MIMO_LIVE_ENDS_WITH_STDIN"
"""Environment variable that ties a program's life to its standard input."""

GRACE_S = 5.0
"""Time between asking a program to end and killing it."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells count it: 128 and the signal's number."""

START_TIMEOUT_S = 300.0
"""The models come from slow disks, too; a program that fails says so at once by ending."""
TAKEN_TIMEOUT_S = 2.0
"""A port of this machine answers in milliseconds; a firewall that drops everything never does."""
MODEL_URL = "http://127.0.0.1:18091/v1"
SERVER_URL = "ws://127.0.0.1:8080/v1/realtime"

Progress = Callable[[str, float], None]
"""Told what is being waited for, and for how many seconds it has been."""


class StartError(AgentError):
    """A program that was needed could not be started; says where its log is."""


class Program(NamedTuple):
    module: str
    summary: str


PROGRAMS = {
    "talk": Program("client.talk", "talk through microphone and loudspeaker, or from WAV files"),
    "ask": Program(
        "client.ask.ask", "send one request to the model server, without a conversation"
    ),
    "serve": Program("server.app", "run the conversation server, with a page for browsers"),
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


@contextmanager
def local_server(progress: Progress) -> Generator[str]:
    """Have a speech model and a conversation server on this machine; yield the server's URL.

    Servers of ours that run already on their usual ports are used. The others are started, on
    free ports where something else took the usual ones, and ended with this program, however
    it ends.

    Raises:
        StartError: If one ends, or isn't ready in time.
    """
    # Slow to load, and other programs don't need it.
    from client.recognition import is_conversation_server, is_model_server  # noqa: PLC0415

    logs = Path(tempfile.mkdtemp(prefix="mimo-live-"))
    model = Service("model", "the speech model", MODEL_URL, is_model_server)
    server = Service("serve", "the conversation server", SERVER_URL, is_conversation_server)
    failed = False
    try:
        with ExitStack() as children:
            model_url = children.enter_context(_running(model, [], logs, progress))
            options = ["--model-url", model_url, "--transcription-url", model_url]
            yield children.enter_context(_running(server, options, logs, progress))
    except StartError:
        failed = True
        raise
    finally:
        if not failed:
            shutil.rmtree(logs)


class Service(NamedTuple):
    program: str
    title: str
    url: str
    """Where it listens unless that port is taken; port 0 is any free one."""
    is_ready: Callable[[str], bool]
    """Whether it, and nothing else, answers at a URL."""
    module: str = "client.cli"
    folder: Path | None = None
    """Where it is run, if it has to be one."""


@contextmanager
def _running(
    service: Service, options: list[str], logs: Path, progress: Progress
) -> Generator[str]:
    if service.is_ready(service.url):
        yield service.url
        return
    port = ["--port", "0"] if _is_taken(service.url) else []
    with started(service, [service.program, *options, *port], logs, progress) as url:
        yield url


@contextmanager
def started(service: Service, words: list[str], logs: Path, progress: Progress) -> Generator[str]:
    """Start a service of our own and yield its URL once it is healthy.

    Raises:
        StartError: If it ends, or isn't ready in time.
    """
    log = logs / f"{service.program}.log"
    child = start(words, log, service.module, service.folder)
    try:
        yield _await_ready(child, service, log, progress)
    finally:
        stop(child)


def start(
    words: list[str], log: Path, module: str = "client.cli", folder: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start one of the programs in a session of its own; its output goes to `log`."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, *words],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {ENDS_WITH_STDIN: "1", "PYTHONUNBUFFERED": "1"},
            cwd=folder,
        )


def stop(child: subprocess.Popen[bytes]) -> None:
    """End a program and all it started: asked first, killed after 5 seconds."""
    try:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        if child.stdin is not None:
            child.stdin.close()


def _await_ready(
    child: subprocess.Popen[bytes], service: Service, log: Path, progress: Progress
) -> str:
    began = time.monotonic()
    while (elapsed_s := time.monotonic() - began) < START_TIMEOUT_S:
        progress(f"starting {service.title}", elapsed_s)
        url = _url_in(log, urlsplit(service.url).scheme)
        if url is not None and service.is_ready(url):
            return url
        with suppress(subprocess.TimeoutExpired):
            status = child.wait(0.1)
            last = log.read_text(errors="replace").strip().rpartition("\n")[2]
            raise StartError(f"{service.title} exited with status {status}: {last}\nlog: {log}")
    raise StartError(f"{service.title} isn't ready after {elapsed_s:.0f} s\nlog: {log}")


def _url_in(log: Path, scheme: str) -> str | None:
    found = re.search(rf"\b{scheme}://[\w.\[\]:-]+/v1\S*", log.read_text(errors="replace"))
    return found and found.group()


def _is_taken(url: str) -> bool:
    """Whether something listens there, or nothing can, as at port 0."""
    where = urlsplit(url)
    if not where.port:
        return True
    try:
        socket.create_connection(
            (where.hostname or "127.0.0.1", where.port), TAKEN_TIMEOUT_S
        ).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return True
    return True


if __name__ == "__main__":
    sys.exit(main())
