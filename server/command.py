"""`mimo-live serve`: its options, and the server that they start, of one process or of several."""

import argparse
import asyncio
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from agent.errors import SettingsError
from server import logs, settings as configuration
from server.app import App, announce
from server.event_loop import event_loop
from server.settings import Settings
from server.workers.parent import Parent, WorkerError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mimo-live serve",
        description="Run the conversation server, over the OpenAI Realtime protocol.",
        epilog="examples:\n  mimo-live serve\n  mimo-live serve --config configs/kiosk.toml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, help="TOML file; see configs/local.toml")
    parser.add_argument("--host", help="address to listen on")
    parser.add_argument("--port", type=int, help="port to listen on; 0 picks a free one")
    parser.add_argument("--workers", type=int, help="processes behind that port, one a core")
    parser.add_argument(
        "--model-url",
        action="append",
        help="base URL of the model server, ending in /v1; may be repeated, for several replicas",
    )
    parser.add_argument(
        "--transcription-url", help="base URL of a running recogniser, ending in /v1"
    )
    return parser


def _settings(arguments: argparse.Namespace) -> Settings:
    settings = configuration.load(arguments.config) if arguments.config else Settings()
    changes: dict[str, dict[str, object]] = msgspec.to_builtins(settings)
    if arguments.host is not None:
        changes["listen"]["host"] = arguments.host
    if arguments.port is not None:
        changes["listen"]["port"] = arguments.port
    if arguments.workers is not None:
        changes["listen"]["workers"] = arguments.workers
    if arguments.model_url is not None:
        changes["model"]["urls"] = arguments.model_url
    if arguments.transcription_url is not None:
        changes["transcription"]["url"] = arguments.transcription_url
    return configuration.checked(changes, "command line")


def main(argv: list[str]) -> int:
    """Run `mimo-live serve`."""
    logs.begin()
    arguments = _parser().parse_args(argv)
    try:
        settings = _settings(arguments)
        with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=event_loop) as runner:
            server = App(settings) if settings.listen.workers == 1 else Parent(settings)
            runner.run(server.run(announce))
    except (SettingsError, WorkerError, OSError) as error:
        print(f"mimo-live serve: {error}", file=sys.stderr)
        return 1
    return 0
