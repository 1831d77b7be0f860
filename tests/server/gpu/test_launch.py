"""Starting the real model server: what is checked, what is said, and what is started.

`vllm`, its interpreter and `nvidia-smi` are small programs on a PATH of their own. The command
under test runs as a process, so that becoming `vllm serve` is seen for what it is.
"""

import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from server.gpu.preflight import PLUG_IN
from tests.server.gpu.environment import install

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[3]
STARTED = "vllm was started with:"


@dataclass
class Machine:
    """A GPU machine with everything installed, which tests break."""

    folder: Path
    environment: dict[str, str]
    port: int
    options: list[str] = field(default_factory=lambda: ["--no-fast"])

    def program(self, name: str, text: str) -> Path:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def installs(self, *, omni: str = "0.30.0", flash_attn: str = "") -> None:
        """Lay out vLLM's own environment; `flash_attn` is what its import runs."""
        site = self.folder / "site"
        (site / "flash_attn").mkdir(parents=True, exist_ok=True)
        (site / "flash_attn" / "__init__.py").write_text(
            f"print('a banner')\n{flash_attn}\nflash_attn_varlen_func = None"
        )
        if omni:
            about = site / "vllm_omni-0.dist-info"
            about.mkdir(exist_ok=True)
            (about / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: vllm-omni\nVersion: {omni}\n"
            )
        self.program("python3.12", f'#!/bin/sh\nPYTHONPATH={site} exec {sys.executable} -S "$@"\n')

    def has_gpu(self, total_mib: int, free_mib: int) -> None:
        self.program(
            "nvidia-smi",
            f'#!/bin/sh\necho "$*" > {self.folder}/asked\necho "NVIDIA X, {total_mib}, {free_mib}"',
        )

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        words = ["model", "--gpu", "--port", str(self.port), *self.options, *options]
        return subprocess.run(
            [sys.executable, "-m", "client.cli", *words],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "bin").mkdir()
    (tmp_path / "tokenizer").mkdir()
    environment = {
        "PATH": str(tmp_path / "bin"),
        "MIMO_AUDIO_TOKENIZER_PATH": str(tmp_path / "tokenizer"),
        "HOME": str(tmp_path),
    }
    with socket.create_server(("127.0.0.1", 0)) as free:
        machine = Machine(tmp_path, environment, free.getsockname()[1])
    machine.installs()
    machine.has_gpu(81_559, 81_000)
    # As in any console script, the first line names the interpreter; it prints what it is given.
    script = "import os, sys\nprint(sys.argv[1:], os.environ['MIMO_AUDIO_TOKENIZER_PATH'])\n"
    machine.program("vllm", f"#!{tmp_path}/bin/python3.12\nprint({STARTED!r})\n{script}")
    return machine


@pytest.fixture
def taken() -> Generator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_it_becomes_vllm_with_our_files(machine: Machine):
    done = machine.run("--model", str(ROOT), "--", "--api-key", "a b")
    assert (done.returncode, done.stderr) == (0, "")
    said, given = done.stdout.splitlines()
    assert said == STARTED
    command = [
        *["serve", str(ROOT), "--omni", "--served-model-name", "MiMo-Audio-7B-Instruct"],
        *["--host", "127.0.0.1", "--port", str(machine.port)],
        *["--chat-template", str(ROOT / "configs" / "chat_template.jinja")],
        *["--deploy-config", str(ROOT / "configs" / "mimo_audio.yaml")],
        *["--api-key", "a b"],
    ]
    assert given == f"{command} {machine.folder / 'tokenizer'}"


def test_print_shows_a_line_that_starts_the_same(machine: Machine):
    shown = machine.run("--print", "--config", "configs/mimo_audio_48gb.yaml")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert STARTED not in shown.stdout
    [line] = shown.stdout.splitlines()
    assert f"--deploy-config {ROOT}/configs/mimo_audio_48gb.yaml" in line
    environment = {"PATH": "/usr/bin:/bin"}
    pasted = subprocess.run(
        ["/bin/sh", "-c", line], env=environment, capture_output=True, text=True, check=True
    )
    assert pasted.stdout.splitlines() == [
        STARTED,
        f"{shlex.split(line)[3:]} {machine.folder / 'tokenizer'}",
    ]


def no_vllm(machine: Machine) -> None:
    (machine.folder / "bin" / "vllm").unlink()


def no_interpreter(machine: Machine) -> None:
    (machine.folder / "bin" / "python3.12").unlink()


def broken_interpreter(machine: Machine) -> None:
    machine.program("python3.12", "#!/bin/sh\necho 'a stack' >&2\necho 'no libc' >&2\nexit 3\n")


def no_omni(machine: Machine) -> None:
    (machine.folder / "site" / "vllm_omni-0.dist-info" / "METADATA").unlink()
    (machine.folder / "site" / "vllm_omni-0.dist-info").rmdir()


def no_tokenizer(machine: Machine) -> None:
    del machine.environment["MIMO_AUDIO_TOKENIZER_PATH"]


def hub_id_as_tokenizer(machine: Machine) -> None:
    machine.environment["MIMO_AUDIO_TOKENIZER_PATH"] = "XiaomiMiMo/MiMo-Audio-Tokenizer"


def no_model_folder(machine: Machine) -> None:
    machine.options += ["--model", "./weights"]


def no_config(machine: Machine) -> None:
    machine.options += ["--config", "absent.yaml"]


def no_driver(machine: Machine) -> None:
    (machine.folder / "bin" / "nvidia-smi").unlink()


def no_gpu(machine: Machine) -> None:
    machine.program("nvidia-smi", "#!/bin/sh\necho 'No devices were found'\nexit 6\n")


def card_of_48_gb(machine: Machine) -> None:
    machine.has_gpu(46_068, 45_500)


def card_of_24_gb(machine: Machine) -> None:
    machine.has_gpu(24_564, 24_000)


def busy_card(machine: Machine) -> None:
    machine.has_gpu(81_559, 30_000)


FATAL: list[tuple[Callable[[Machine], None], str, str]] = [
    (no_vllm, "`vllm` is not on PATH", "docs/gpu.md"),
    (no_interpreter, "can't run: its interpreter", "reinstall vLLM"),
    (broken_interpreter, "(no libc)", "reinstall vLLM"),
    (no_omni, "vLLM-Omni is not; install a version from 0.20 to 0.32", "pip install vllm-omni"),
    (no_tokenizer, "MIMO_AUDIO_TOKENIZER_PATH is not set", "download XiaomiMiMo"),
    (hub_id_as_tokenizer, "which is not a folder", "a hub id does not work"),
    (no_model_folder, "there is no model folder ./weights", "as --model"),
    (no_config, "absent.yaml", "as --config"),
    (no_driver, "nvidia-smi fails (No such file", "`mimo-live model`"),
    (no_gpu, "nvidia-smi fails (No devices were found)", "`mimo-live model`"),
    (card_of_48_gb, "has 46068 MiB", "use --config configs/mimo_audio_48gb.yaml"),
    (card_of_24_gb, "has 24564 MiB", "use a larger card"),
    (busy_card, "only 30000 of the 81559 MiB", "stop the processes that nvidia-smi"),
]


@pytest.mark.parametrize(
    ("broken", "wrong", "advice"), FATAL, ids=[case[0].__name__ for case in FATAL]
)
def test_what_can_not_work_is_one_line_and_starts_nothing(
    machine: Machine, broken: Callable[[Machine], None], wrong: str, advice: str
):
    broken(machine)
    done = machine.run()
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("mimo-live model: ")
    assert wrong in line
    assert advice in line


def test_a_port_in_use_is_fatal(machine: Machine, taken: int):
    machine.port = taken
    done = machine.run()
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert f"can't listen on 127.0.0.1:{taken} (Address already in use)" in line
    assert "another --port" in line


def test_everything_wrong_is_told_at_once_and_print_shows_the_command_nevertheless(
    machine: Machine,
):
    for breaks in (no_vllm, no_tokenizer, no_driver):
        breaks(machine)
    done = machine.run("--print")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 3
    assert done.stdout.startswith(
        "env MIMO_AUDIO_TOKENIZER_PATH=/path/to/MiMo-Audio-Tokenizer vllm serve "
    )


@pytest.mark.parametrize("version", ["0.19.1", "0.33.0", "1.20.0", "unreleased"])
def test_an_unknown_version_is_a_warning(machine: Machine, version: str):
    machine.installs(omni=version)
    done = machine.run()
    assert done.returncode == 0
    assert STARTED in done.stdout
    [line] = done.stderr.splitlines()
    assert line.startswith(f"mimo-live model: warning: vLLM-Omni {version} ")
    assert "0.20 to 0.32" in line


@pytest.mark.parametrize("version", ["0.20.0", "0.32.0rc1"])
def test_the_first_and_the_last_known_version_pass(machine: Machine, version: str):
    machine.installs(omni=version)
    assert machine.run().stderr == ""


def test_a_flash_attn_that_can_not_be_imported_is_a_warning(machine: Machine):
    machine.installs(flash_attn="raise ImportError('built for another torch\\nsymbols')")
    done = machine.run()
    assert done.returncode == 0
    assert STARTED in done.stdout
    [line] = done.stderr.splitlines()
    assert "warning: flash-attn can't be imported (ImportError: built for another torch)" in line
    assert "pip install flash-attn" in line


def test_the_plug_in_and_its_deploy_file_are_taken_where_they_fit(machine: Machine):
    machine.options.clear()
    install(machine.folder / "site")
    machine.environment["PYTHONPATH"] = "/elsewhere"
    shown = machine.run("--print")
    told = "4 replies at once; in the configuration of `mimo-live serve`, under [model]: "
    assert shown.stderr == f"mimo-live model: {told}replies_at_once = 4\n"
    assert shown.returncode == 0
    assert f" PYTHONPATH={PLUG_IN}:/elsewhere " in shown.stdout
    assert f"--deploy-config {ROOT}/configs/mimo_audio_fast.yaml" in shown.stdout
    started = machine.run()
    assert (started.returncode, started.stderr) == (0, shown.stderr)
    assert f"'{ROOT}/configs/mimo_audio_fast.yaml'" in started.stdout


def test_where_the_plug_in_does_not_fit_stock_serving_goes_on(machine: Machine):
    machine.options.clear()
    install(machine.folder / "site", version="0.30.0")
    done = machine.run()
    assert done.returncode == 0
    [line] = done.stderr.splitlines()
    assert line.startswith("mimo-live model: warning: stock serving, one reply at a time: ")
    assert "(vllm 0.30.0, not 0.24; vllm-omni 0.30.0, not 0.24)" in line
    assert f"'{ROOT}/configs/mimo_audio.yaml'" in done.stdout


def test_a_deploy_file_that_is_given_counts_with_the_plug_in_too(machine: Machine):
    machine.options.clear()
    install(machine.folder / "site")
    shown = machine.run("--print", "--config", "configs/mimo_audio_48gb.yaml")
    assert shown.stderr == ""
    assert f"PYTHONPATH={PLUG_IN} " in shown.stdout
    assert f"--deploy-config {ROOT}/configs/mimo_audio_48gb.yaml" in shown.stdout


def test_the_deploy_file_for_48_gb_takes_a_card_of_48_gb(machine: Machine):
    card_of_48_gb(machine)
    assert machine.run("--config", "configs/mimo_audio_48gb.yaml").returncode == 0


def test_a_deploy_file_of_ones_own_is_not_judged(machine: Machine):
    card_of_24_gb(machine)
    own = machine.folder / "own.yaml"
    own.touch()
    assert machine.run("--config", str(own)).stderr == ""


def test_the_card_that_vllm_will_see_is_the_one_that_is_asked_about(machine: Machine):
    machine.environment["CUDA_VISIBLE_DEVICES"] = "3,1"
    shown = machine.run("--print")
    assert "--id=3" in (machine.folder / "asked").read_text().split()
    assert " CUDA_VISIBLE_DEVICES=3,1 " in shown.stdout


@pytest.mark.parametrize(
    "first_lines",
    ["#!/usr/bin/env python3.12", "#!/bin/sh\n'''exec' \"{bin}/python\" \"$0\" \"$@\"\n' '''"],
    ids=["env", "a path too long for the system"],
)
def test_its_interpreter_is_found_however_the_script_names_it(machine: Machine, first_lines: str):
    folder = machine.folder / "bin"
    (folder / "python").symlink_to(folder / "python3.12")
    # Another environment's command, linked into PATH as tools do it.
    real = machine.program("vllm-0.30", first_lines.format(bin=folder))
    (folder / "vllm").unlink()
    (folder / "vllm").symlink_to(real)
    assert machine.run("--print").stderr == ""


@pytest.mark.parametrize("port", ["0", "65536", "http"])
def test_a_port_that_is_none_is_refused(machine: Machine, port: str):
    done = machine.run("--port", port)
    assert done.returncode == 2
    assert f"'{port}' is not a port from 1 to 65535" in done.stderr
