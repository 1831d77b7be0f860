"""What makes vLLM-Omni with MiMo-Audio fail late or sound wrong, looked for before it starts.

Loading the model takes minutes, and what is wrong with an installation shows only then, or as
noise instead of speech. Each finding is one line: what is wrong, and what to do about it.
"""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from agent.errors import AgentError

TOKENIZER = "MIMO_AUDIO_TOKENIZER_PATH"
"""Environment variable that names the folder of the audio tokenizer."""

KNOWN_MINORS = range(20, 33)
"""Minor versions of vLLM-Omni 0.x whose behaviour is known."""

PROBE_TIMEOUT_S = 120.0
"""Importing torch from a cold disk takes long; longer than this only delays the report."""

# The import is the one that the audio tokenizer does: being installed is not enough, a build
# for another torch fails only when imported.
_PROBE = """
import importlib.metadata, json
found = {}
try:
    found["omni"] = importlib.metadata.version("vllm-omni")
except importlib.metadata.PackageNotFoundError:
    pass
try:
    from flash_attn import flash_attn_varlen_func
except Exception as error:
    found["flash_attn_problem"] = f"{type(error).__name__}: {error}".splitlines()[0]
print()
print(json.dumps(found))
"""


PLUG_IN = Path(__file__).parent / "fast" / "on_path"
"""Folder that has our plug-in for vLLM, and nothing else."""

_LACKS = "import sys; sys.path.insert(0, sys.argv[1]); import mimo_fast; print(mimo_fast.lacks())"


class NoAnswerError(AgentError):
    """A program that was asked something could not answer; says why."""


class Finding(NamedTuple):
    """Something wrong, and what to do about it, in one line."""

    line: str
    fatal: bool = True


class Packages(msgspec.Struct, frozen=True):
    """What vLLM's interpreter can import."""

    omni: str | None = None
    """Version of vLLM-Omni."""
    flash_attn_problem: str | None = None


class Need(NamedTuple):
    """What one of our deploy files takes of a GPU."""

    card_gb: int
    total_mib: int
    """A little under what is printed on the card: the driver keeps some for itself."""
    share: float
    """The sum of the stages' `gpu_memory_utilization`."""


NEEDS = {
    "mimo_audio.yaml": Need(80, 78_000, 0.8),
    "mimo_audio_fast.yaml": Need(80, 78_000, 0.8),
    "mimo_audio_48gb.yaml": Need(48, 45_000, 0.95),
}
"""By file name; a deploy file of somebody's own is not judged."""


def look(vllm: str | None, model: str, files: list[Path], where: tuple[str, int]) -> list[Finding]:
    """Return all that is wrong with starting `model`, the quick checks first.

    Args:
        vllm: Path of the `vllm` command, if there is one.
        files: The deploy file and whatever else vLLM is to read.
        where: Host and port that it is to listen on.
    """
    return [
        *_packages(vllm),
        *_tokenizer(os.environ.get(TOKENIZER)),
        *_files(model, files),
        *_memory(files[0].name),
        *_port(*where),
    ]


def plug_in_lacks(vllm: str) -> str:
    """Return what the faster steps need and vLLM's environment has not, in one line."""
    try:
        return _answer([_interpreter(Path(vllm)), "-c", _LACKS, str(PLUG_IN)]).strip()
    except NoAnswerError:
        # Which `look` reports.
        return ""


def _packages(vllm: str | None) -> Iterator[Finding]:
    if vllm is None:
        yield Finding(
            "`vllm` is not on PATH; install vLLM and vLLM-Omni in their own environment "
            "(docs/gpu.md) and activate it"
        )
        return
    python = _interpreter(Path(vllm))
    try:
        packages = _probe(python)
    except (NoAnswerError, msgspec.DecodeError) as error:
        yield Finding(f"{vllm} can't run: its interpreter {python} fails ({error}); reinstall vLLM")
        return
    yield from _omni(packages.omni, python)
    if packages.flash_attn_problem is not None:
        yield Finding(
            f"flash-attn can't be imported ({packages.flash_attn_problem}); without it, users "
            f"heard noise instead of speech. To install it: {python} -m pip install flash-attn "
            "--no-build-isolation",
            fatal=False,
        )


def _interpreter(script: Path) -> str:
    """Return the Python that a console script runs in, as its first line names it.

    Installers write `#!/bin/sh` where the path is too long for that line; the interpreter is
    then beside the script.
    """
    with script.open("rb") as file:
        words = file.readline(4096).decode(errors="replace").removeprefix("#!").split()
    if words and "python" in Path(words[-1]).name:
        return words[-1] if "/" in words[-1] else shutil.which(words[-1]) or words[-1]
    return str(script.resolve().with_name("python"))


def _probe(python: str) -> Packages:
    # Libraries may have said something of their own before.
    answer = _answer([python, "-c", _PROBE]).rstrip().rpartition("\n")[2]
    return msgspec.json.decode(answer, type=Packages)


def _answer(command: list[str]) -> str:
    """Return what a command prints.

    Raises:
        NoAnswerError: If it can't be run or fails; says why in one line.
    """
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except OSError as error:
        raise NoAnswerError(error.strerror) from error
    except subprocess.TimeoutExpired as error:
        raise NoAnswerError(f"no answer in {PROBE_TIMEOUT_S:.0f} s") from error
    if asked.returncode != 0:
        said = (asked.stderr or asked.stdout).strip().rpartition("\n")[2]
        raise NoAnswerError(said or f"status {asked.returncode}")
    return asked.stdout


def _omni(version: str | None, python: str) -> Iterator[Finding]:
    known = f"0.{KNOWN_MINORS[0]} to 0.{KNOWN_MINORS[-1]}"
    if version is None:
        yield Finding(
            f"vLLM is installed, but vLLM-Omni is not; install a version from {known}: "
            f"{python} -m pip install vllm-omni"
        )
        return
    found = re.match(r"0\.(\d+)", version)
    if found is None or int(found[1]) not in KNOWN_MINORS:
        yield Finding(
            f"vLLM-Omni {version} is untested; if replies fail or sound wrong, install a version "
            f"from {known}",
            fatal=False,
        )


def _tokenizer(folder: str | None) -> Iterator[Finding]:
    if not folder:
        yield Finding(
            f"{TOKENIZER} is not set; download XiaomiMiMo/MiMo-Audio-Tokenizer and set it to the "
            "folder"
        )
    elif not Path(folder).is_dir():
        yield Finding(
            f"{TOKENIZER} is {folder}, which is not a folder; set it to the folder into which "
            "XiaomiMiMo/MiMo-Audio-Tokenizer was downloaded (a hub id does not work)"
        )


def _files(model: str, files: list[Path]) -> Iterator[Finding]:
    if model.startswith((".", "/", "~")) and not Path(model).is_dir():
        yield Finding(
            f"there is no model folder {model}; pass an existing one as --model, or a hub id, "
            "such as XiaomiMiMo/MiMo-Audio-7B-Instruct"
        )
    for file in files:
        if not file.is_file():
            yield Finding(f"there is no file {file}; pass an existing one as --config")


def _memory(config: str) -> Iterator[Finding]:
    try:
        name, total_mib, free_mib = _card()
    except (NoAnswerError, ValueError) as error:
        yield Finding(
            f"no NVIDIA GPU: nvidia-smi fails ({error}); install the driver, or use "
            "`mimo-live model`, which needs no GPU"
        )
        return
    if config not in NEEDS:
        return
    need, smallest = NEEDS[config], NEEDS["mimo_audio_48gb.yaml"]
    if total_mib < need.total_mib:
        fits = total_mib >= smallest.total_mib
        advice = "use --config configs/mimo_audio_48gb.yaml" if fits else "use a larger card"
        yield Finding(f"{name} has {total_mib} MiB, but {config} needs {need.card_gb} GB; {advice}")
    elif free_mib < need.share * total_mib:
        yield Finding(
            f"only {free_mib} of the {total_mib} MiB of {name} are free, but {config} needs "
            f"{need.share:.0%}; stop the processes that nvidia-smi lists"
        )


def _card() -> tuple[str, int, int]:
    """Return name, memory and free memory (MiB) of the GPU that vLLM will use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    query = "--query-gpu=name,memory.total,memory.free"
    which = f"--id={visible.split(',')[0].strip() or '0'}"
    answer = _answer(["nvidia-smi", query, "--format=csv,noheader,nounits", which])
    name, total_mib, free_mib = answer.strip().rsplit(",", 2)
    return name, int(total_mib), int(free_mib)


def _port(host: str, port: int) -> Iterator[Finding]:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        yield Finding(
            f"can't listen on {host}:{port} ({error.strerror}); stop the program that listens "
            "there, or choose another --port"
        )
