"""Starts the project's own programs as users do, on free ports, and ends them."""

import os
import re
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).parents[2]
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def command(*words: str) -> list[str]:
    """Return the command line of `mimo-live WORDS`."""
    return [sys.executable, "-m", "client.cli", *words]


_ON_FREE_PORTS = """
import sys
from client import cli, processes
processes.MODEL_URL, processes.SERVER_URL = "http://127.0.0.1:0/v1", "ws://127.0.0.1:0/v1/realtime"
sys.exit(cli.main())
"""


def command_on_free_ports(*words: str) -> list[str]:
    """The same, for what starts servers: those that run on the usual ports are left alone."""
    return [sys.executable, "-c", _ON_FREE_PORTS, *words]


def model_command(*arguments: str) -> list[str]:
    """Return the command line of `mimo-live model`."""
    return command("model", *arguments)


@contextmanager
def start_model(*arguments: str) -> Generator[str]:
    """Run the embedded speech model on a free port; give its address once it is ready."""
    with started(model_command("--port", "0", *arguments), "ready") as lines:
        yield address(lines, "http").removesuffix("/v1")


@contextmanager
def start_server(
    model_url: str, *arguments: str, environment: Mapping[str, str] = MappingProxyType({})
) -> Generator[str]:
    """Run a conversation server on a free port; give its address, without a path.

    Args:
        model_url: The model server's address, as `start_model` gives it.
        environment: Variables beside those of the tests themselves.
    """
    urls = ("--model-url", f"{model_url}/v1", "--transcription-url", f"{model_url}/v1")
    options = ("--port", "0", *urls, *arguments)
    with started(command("serve", *options), "the page is at", environment) as lines:
        yield address(lines, "wss?").removesuffix("/v1/realtime")


def address(lines: list[str], scheme: str) -> str:
    found = [re.search(rf"listening on ({scheme}://\S+)", line) for line in lines]
    [address] = [match[1] for match in found if match]
    return address


@contextmanager
def started(
    words: list[str], last: str, environment: Mapping[str, str] = MappingProxyType({})
) -> Generator[list[str]]:
    """Run a program; give the lines that it printed up to the one that begins with `last`."""
    with subprocess.Popen(
        words,
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            lines: list[str] = []
            for line in process.stdout:
                lines.append(line.strip())
                if line.startswith(last):
                    break
            else:
                raise AssertionError(f"{words} did not start:\n{''.join(lines)}")
            yield lines
        finally:
            process.terminate()
            process.communicate(timeout=10)


def child(words: str) -> int:
    """The process that was started here with these words in its command line."""
    ask = ["pgrep", "--parent", str(os.getpid()), "-f", words]
    return int(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split()[0])


def children(pid: int) -> list[int]:
    """The processes that another one has started and that still run."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def memory_mb(pid: int) -> float:
    """Resident memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def busy_s(pid: int) -> float:
    """Processor time so far, of all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


def precise_busy_s(pid: int) -> float:
    """The same to the nanosecond, of the threads that still run."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9
