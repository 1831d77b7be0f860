"""`mimo-live model`: the embedded speech model as a process of its own.

Numeric libraries read the environment when they are loaded, so everything that loads them is
imported only after `main` has prepared it.
"""

import argparse
import errno
import os
import socket
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

DEFAULT_PORT = 18091
"""The one that `mimo-live model --gpu` takes, too, so that clients find either."""

_WHAT = """\
A small speech model on the processor, behind the same HTTP interface as MiMo-Audio on
vLLM-Omni: Whisper base listens, SmolLM2-135M thinks, Piper speaks. It is a demonstration and
a test double. It is NOT MiMo-Audio: it hears words only, and knows little."""

_REAL = """\
For the real one, run `mimo-live model --gpu` on a machine with a GPU (docs/gpu.md)
and add its address to `urls` under `[model]` in the configuration."""

_EXAMPLES = """\
examples:
  mimo-live model
  mimo-live model --port 0 --recogniser-only"""

_EXTRA = ("ctranslate2", "onnxruntime", "piper", "starlette", "tokenizers", "uvicorn", "xllamacpp")


def main(argv: list[str]) -> int:
    """Serve until interrupted; return the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.recogniser_only and (options.llm or options.voice):
        parser.error("--recogniser-only cannot be combined with --llm or --voice")
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        return _fail(
            f"the embedded speech model is not installed: {', '.join(missing)} missing; "
            "`make talk` in a checkout of the project installs it"
        )
    try:
        listener = _listen(options.host, options.port)
    except OSError as error:
        reason = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror
        return _fail(f"can't listen on {options.host}:{options.port}: {reason}")

    # Threads that wait for work by spinning take the two cores from the models that have some.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    from server.embedded.process import Files, Process  # noqa: PLC0415

    with listener:
        files = Files(options.llm, options.voice, options.recogniser_only)
        return Process(listener, files, _say).run(_introduction(listener))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mimo-live model",
        description=_WHAT,
        epilog=f"{_EXAMPLES}\n\n{_REAL}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, help="port; 0 picks a free one (%(default)s)"
    )
    parser.add_argument(
        "--llm",
        type=Path,
        metavar="FILE.gguf",
        help="an instruction-tuned language model to think with, instead of SmolLM2-135M",
    )
    parser.add_argument(
        "--voice",
        type=Path,
        metavar="FILE.onnx",
        help="a Piper voice, with FILE.onnx.json beside it, instead of the American `joe`",
    )
    parser.add_argument(
        "--recogniser-only",
        action="store_true",
        help="only transcribe speech (/v1/audio/transcriptions), in a third of the memory",
    )
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def _introduction(listener: socket.socket) -> Sequence[str]:
    host, port = listener.getsockname()[:2]
    return [_WHAT, "", _REAL, "", f"listening on http://{host}:{port}/v1"]


def _say(line: str) -> None:
    print(line, flush=True)


def _fail(reason: str) -> int:
    print(f"mimo-live model: {reason}", file=sys.stderr, flush=True)
    return 1
