"""The conversation server: accepts clients, serves the page and `/healthz`, drains on a signal."""

import argparse
import asyncio
import logging
import mimetypes
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from agent.errors import SettingsError
from agent.objects import Audio, AudioInput, ServerVad, SessionConfig
from agent.session import Session, Timing
from agent.turn import Patience
from server import settings as configuration
from server.connection import Connection, new_id
from server.model import ModelServer
from server.settings import Kiosk, Settings
from server.vad import detector

log = logging.getLogger(__name__)

LARGEST_FRAME = 21 * 2**20
"""Bytes: one append may carry 15 MiB of sound, which are 20 MiB of base64, and its JSON."""
PAGE = Path(__file__).parent / "page"
PAGES = {"/": "index.html", "/kiosk": "kiosk.html"}
REALTIME = ("/v1/realtime", "/realtime")
POLICY = (
    "default-src 'self'; connect-src 'self' ws: wss:; base-uri 'none'; frame-ancestors 'none'; "
    "form-action 'none'"
)


class App:
    """The server of one process; sessions share nothing but settings and the model client."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._model = ModelServer(settings)

    async def run(self) -> None:
        """Serve until SIGINT or SIGTERM."""
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        listen = self._settings.listen
        async with serve(
            self._serve,
            listen.host,
            listen.port,
            process_request=partial(_answer_http, self._settings.kiosk),
            max_size=LARGEST_FRAME,
            compression=None,
            write_limit=2**16,
            select_subprotocol=_select_realtime,
        ) as server:
            print(f"listening on ws://{_address(server)}/v1/realtime", flush=True)
            print(f"the page is at http://{_address(server)}/", flush=True)
            await stop.wait()
        await self._model.close()

    async def _serve(self, socket: ServerConnection) -> None:
        session_id = new_id("sess")
        log.info("%s opened", session_id)
        settings = self._settings
        patience = Patience(
            settings.model.first_output_timeout_ms / 1000,
            settings.model.between_outputs_timeout_ms / 1000,
        )
        turn = settings.turn
        timing = Timing(patience, turn.early_start_ms, turn.longest_turn_ms)
        config = _config(settings, session_id, socket)
        vad = detector(turn.vad)
        await Connection(socket, Session(config, timing, new_id), self._model, vad).run()
        log.info("%s closed", session_id)


def _config(settings: Settings, session_id: str, socket: ServerConnection) -> SessionConfig:
    turn = settings.turn
    path = socket.request.path if socket.request else ""
    asked = parse_qs(urlsplit(path).query).get("model", [settings.model.name])
    detection = ServerVad(turn.threshold, turn.prefix_padding_ms, turn.silence_duration_ms)
    return SessionConfig(
        id=session_id,
        model=asked[0],
        output_modalities=["audio"],
        instructions=settings.persona.instructions,
        audio=Audio(input=AudioInput(turn_detection=detection)),
        tools=[],
        tool_choice="auto",
        max_output_tokens="inf",
    )


def _address(server: Server) -> str:
    host, port = next(iter(server.sockets)).getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _select_realtime(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Browsers carry their key in the list of subprotocols and want one of it back."""
    return Subprotocol("realtime") if "realtime" in offered else None


def _answer_http(kiosk: Kiosk, _: ServerConnection, request: Request) -> Response | None:
    """Answer what is no WebSocket; `None` lets the handshake go on."""
    path = urlsplit(request.path).path
    if path in REALTIME:
        return None
    if path == "/healthz":
        return _response(HTTPStatus.OK, b'{"status":"healthy"}', "application/json")
    if path == "/page/kiosk.json":
        return _response(HTTPStatus.OK, msgspec.json.encode(kiosk), "application/json")
    name = PAGES.get(path, path.removeprefix("/page/"))
    known = {file.name: file for file in PAGE.iterdir()}
    if name not in known:
        return _response(HTTPStatus.NOT_FOUND, b"not found\n", "text/plain")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return _response(HTTPStatus.OK, known[name].read_bytes(), kind)


def _response(status: HTTPStatus, body: bytes, kind: str) -> Response:
    headers = Headers(
        {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(body)),
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-cache",
            "Connection": "close",
        }
    )
    return Response(status.value, status.phrase, headers, body)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mimo-live serve",
        description="Serve conversations over the OpenAI Realtime protocol.",
        epilog="example: mimo-live serve --config configs/local.toml",
    )
    parser.add_argument("--config", type=Path, help="TOML file; see configs/local.toml")
    parser.add_argument("--host", help="address to listen on")
    parser.add_argument("--port", type=int, help="port to listen on; 0 takes a free one")
    parser.add_argument("--model-url", help="base URL of the model server, ending in /v1")
    return parser


def _settings(arguments: argparse.Namespace) -> Settings:
    settings = configuration.load(arguments.config) if arguments.config else Settings()
    changes: dict[str, dict[str, object]] = msgspec.to_builtins(settings)
    if arguments.host is not None:
        changes["listen"]["host"] = arguments.host
    if arguments.port is not None:
        changes["listen"]["port"] = arguments.port
    if arguments.model_url is not None:
        changes["model"]["url"] = changes["transcription"]["url"] = arguments.model_url
    return configuration.checked(changes, "command line")


def main(argv: list[str]) -> int:
    """Run `mimo-live serve`."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level="INFO")
    logging.getLogger("websockets").setLevel("WARNING")
    logging.getLogger("httpx2").setLevel("WARNING")
    arguments = _parser().parse_args(argv)
    try:
        settings = _settings(arguments)
        with suppress(KeyboardInterrupt):
            asyncio.run(App(settings).run())
    except (SettingsError, OSError) as error:
        print(f"mimo-live serve: {error}", file=sys.stderr)
        return 1
    return 0
