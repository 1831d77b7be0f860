"""Programs that another one starts: found or started, waited for, and ended with it.

The output of each goes to a log of its own, which also tells the port it listens on.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from agent.errors import AgentError

ENDS_WITH_STDIN = "MIMO_LIVE_ENDS_WITH_STDIN"
"""Environment variable that ties a program's life to its standard input."""

GRACE_S = 5.0
"""Time between asking a program to end and killing it."""

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
