"""`mimo-live model --gpu`: start vLLM-Omni with MiMo-Audio, set up for conversation.

It checks what would fail late, and then becomes `vllm serve`. Nothing of vLLM is imported: it
lives in an environment of its own.
"""

import argparse
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from server.gpu.preflight import PLUG_IN, TOKENIZER, Finding, look, plug_in_lacks

CONFIGS = Path(__file__).parents[2] / "configs"
CHAT_TEMPLATE = CONFIGS / "chat_template.jinja"

_WHAT = """\
MiMo-Audio itself, on vLLM-Omni and a GPU: checks the installation, then becomes `vllm serve` with
the deploy file and chat template of this project. docs/gpu.md says what to install."""

_EXAMPLES = """\
examples:
  mimo-live model --gpu --print
  mimo-live model --gpu --config configs/mimo_audio_48gb.yaml
  mimo-live model --gpu -- --uvicorn-log-level warning"""


_SET_SEATS = "in the configuration of `mimo-live serve`, under [model]: replies_at_once ="


def main(argv: list[str]) -> int:
    """Check, then become `vllm serve`, or show it; return 1 if a check says it can't work."""
    own, extra = _divided(argv)
    options = _parser().parse_args(own)
    vllm = shutil.which("vllm")
    lacks = plug_in_lacks(vllm) if options.fast and vllm is not None else ""
    ours = "mimo_audio_fast.yaml" if options.fast and not lacks else "mimo_audio.yaml"
    config = (options.config or CONFIGS / ours).absolute()
    findings = look(vllm, options.model, [config, CHAT_TEMPLATE], (options.host, options.port))
    if lacks:
        slow = f"stock serving, one reply at a time: the plug-in for more does not fit ({lacks})"
        findings.append(Finding(slow, fatal=False))
    for line, fatal in findings:
        kind = "" if fatal else "warning: "
        print(f"mimo-live model: {kind}{line}", file=sys.stderr, flush=True)

    works = not any(finding.fatal for finding in findings)
    if works and options.fast and not lacks and (seats := _seats(config)) > 1:
        print(
            f"mimo-live model: {seats} replies at once; {_SET_SEATS} {seats}",
            file=sys.stderr,
            flush=True,
        )
    command = [
        *[vllm or "vllm", "serve", options.model, "--omni"],
        *["--served-model-name", "MiMo-Audio-7B-Instruct"],
        *["--host", options.host, "--port", str(options.port)],
        *["--chat-template", str(CHAT_TEMPLATE), "--deploy-config", str(config)],
        *extra,
    ]
    if options.print:
        environment = {TOKENIZER: "/path/to/MiMo-Audio-Tokenizer"} | _environment(options.fast)
        settings = [f"{name}={value}" for name, value in environment.items()]
        print(shlex.join(["env", *settings, *command]), flush=True)
        return 0 if works else 1
    if vllm is not None and works:
        os.execve(vllm, command, os.environ | _environment(options.fast))
    return 1


def _seats(config: Path) -> int:
    """Return how many replies a deploy file is for."""
    found = re.search(r"^ *max_num_seqs: *(\d+)", config.read_text(encoding="utf-8"), re.M)
    return int(found[1]) if found else 1


def _divided(argv: list[str]) -> tuple[list[str], list[str]]:
    """Divide our own options from those after `--`."""
    end = argv.index("--") if "--" in argv else len(argv)
    return argv[:end], argv[end + 1 :]


def _environment(is_fast: bool) -> dict[str, str]:
    """Return the variables that count, as they are or as they will be."""
    names = [TOKENIZER, "CUDA_VISIBLE_DEVICES", "PYTHONPATH"]
    found = {name: value for name in names if (value := os.environ.get(name))}
    if is_fast:
        found["PYTHONPATH"] = ":".join([str(PLUG_IN), *filter(None, [found.get("PYTHONPATH")])])
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mimo-live model",
        usage="%(prog)s --gpu [OPTION ...] [-- VLLM_OPTION ...]",
        description=_WHAT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--gpu", action="store_true", required=True, help=argparse.SUPPRESS)
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE.yaml",
        help="deploy file for vLLM-Omni (configs/mimo_audio_fast.yaml where the plug-in fits, else "
        "configs/mimo_audio.yaml)",
    )
    parser.add_argument(
        "--fast",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="load our plug-in into vLLM: sooner replies, four at once (where it fits)",
    )
    parser.add_argument(
        "--model",
        default="XiaomiMiMo/MiMo-Audio-7B-Instruct",
        metavar="PATH_OR_ID",
        help="folder of the weights, or their id on the hub (%(default)s)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=_port, default=18091, help="port (%(default)s)")
    parser.add_argument(
        "--print", action="store_true", help="check, and print the command instead of running it"
    )
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to 65535")
    return int(text)
