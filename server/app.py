"""The conversation server: accepts or refuses clients, gives each a session, drains on a signal."""

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import msgspec
from msgspec import UNSET, structs
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from agent.audio import SAMPLE_BYTES
from agent.errors import SettingsError
from agent.keys import SERVER
from agent.policy import Patience, Policy
from agent.realtime.config import Audio, AudioInput, SemanticVad, ServerVad, SessionConfig
from agent.realtime.merge import merged
from agent.trace.recorder import Recorder, Setup
from server import settings as configuration
from server.auth import Authenticator, Secret, check_exposure
from server.event_loop import event_loop
from server.keys import find_key
from server.logs import to_terminal
from server.memory import give_back
from server.model.router import ModelRouter
from server.model.transcription import Transcriber
from server.model.voice_samples import load_voices
from server.session.budget import Budget
from server.session.connection import Connection, new_id
from server.session.registry import SessionRegistry, asked
from server.session.socket import ClientSocket
from server.settings import Settings
from server.tls import certificate
from server.tracing import Traces
from server.vad import detector
from server.web.client_secrets import ClientSecrets
from server.web.crowd import Crowd, places
from server.web.door import MOST_WAITING, REQUEST_S, Doorway
from server.web.entrance import Entrance
from server.web.health import Health, health
from server.web.http import query
from server.web.pages import Pages
from server.web.site import Site

log = logging.getLogger(__name__)

LARGEST_FRAME = 21 * 2**20
"""Bytes: one append may carry 15 MiB of sound, which are 20 MiB of base64, and its JSON."""
LONGEST_SESSION_S = 3_600
"""An hour, as at OpenAI; longer keeps the memory of a session that was left open."""


class App:
    """The server of one process; sessions share nothing but settings, key and model clients."""

    def __init__(self, settings: Settings):
        self._settings = settings
        listen = settings.listen
        key = find_key(os.environ, SERVER, listen.api_key_file, "listen.api_key_file")
        check_exposure(listen.host, key)
        self._authenticator = Authenticator(key, listen.allowed_origins)
        self._model = ModelRouter(settings)
        self._voices = load_voices(settings.persona)
        self._transcriber = Transcriber(settings, self._model)
        self._registry = SessionRegistry()
        self._budget = Budget(listen.most_session_mb * 2**20, listen.most_memory_mb * 2**20)
        self._traces = Traces(settings.trace)
        sessions, self._waiting = places(listen.most_sessions, MOST_WAITING)
        crowd = Crowd(sessions, listen.most_sessions_per_address)
        self._entrance = Entrance(self._authenticator, crowd)

    async def run(self) -> None:
        """Serve until SIGINT or SIGTERM."""
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        listen = self._settings.listen
        tls, doorway = certificate(listen), self._doorway()
        async with serve(
            self._serve,
            listen.host,
            listen.port,
            ssl=tls,
            ssl_handshake_timeout=REQUEST_S if tls else None,
            process_response=self._entrance.note_handshake,
            create_connection=cast(type[ServerConnection], doorway.connection),
            max_size=LARGEST_FRAME,
            compression=None,
            write_limit=2**16,
            select_subprotocol=_select_realtime,
        ) as server:
            secure = "s" if tls else ""
            print(f"listening on ws{secure}://{_address(server)}/v1/realtime", flush=True)
            print(f"the page is at http{secure}://{_address(server)}/", flush=True)
            async with asyncio.TaskGroup() as tasks:
                model = tasks.create_task(self._model.watch(), name="watch the model")
                stuck = tasks.create_task(self._registry.watch(), name="watch for stuck sessions")
                await stop.wait()
                model.cancel()
                stuck.cancel()
            self._registry.close()
            doorway.close()
        await self._model.close()
        await self._transcriber.close()
        self._traces.close()

    def _doorway(self) -> Doorway:
        secrets = ClientSecrets(self._authenticator, lambda secret: self._config("", secret))
        site = Site(Pages(self._settings.kiosk), secrets, self._health)
        return Doorway(site, self._entrance, self._waiting)

    def _health(self) -> Health:
        return health(self._registry.sessions, self._registry.stuck, self._model.conditions)

    async def _serve(self, socket: ServerConnection) -> None:
        request = socket.request
        assert request is not None, "the handshake is over"
        assert isinstance(socket, ClientSocket), "the doorway made it"
        try:
            if not await self._entrance.admits(socket):
                return
            token, position = asked(request.path)
            if connection := self._registry.find(token):
                await connection.resume(socket, position)
                return
        except ConnectionClosed:
            return
        secret = self._authenticator.secret(request.headers)
        await self._converse(self._config(request.path, secret), socket)

    async def _converse(self, config: SessionConfig, socket: ClientSocket) -> None:
        log.info("%s opened", config.id)
        try:
            await self._hold(config, socket)
        except Exception:
            log.exception("%s failed", config.id)
            await socket.close(1011)
        log.info("%s closed", config.id)
        if not self._registry.sessions:
            give_back()

    async def _hold(self, config: SessionConfig, socket: ClientSocket) -> None:
        clock = asyncio.get_running_loop().time
        setup = self._setup(config, clock() + LONGEST_SESSION_S)
        async with self._traces.recording(config.id) as note:
            recorder = Recorder(note, new_id)
            recorder.began(setup, clock())
            session = setup.session(recorder.new_id, self._voices)
            connection = Connection(
                socket,
                session,
                self._model.client(),
                self._transcriber,
                detector(self._settings.turn.vad),
                recorder=recorder,
                grace_s=self._settings.listen.resume_grace_s,
                budget=self._budget,
            )
            with self._registry.running(connection):
                await connection.run()
            recorder.ended(clock())
        early = session.early_starts
        log.info("%s: %d early starts used, %d wasted", config.id, early.used, early.wasted)

    def _setup(self, config: SessionConfig, expires_at: float) -> Setup:
        """What a session is made with, but for the sound of the voices."""
        model, turn = self._settings.model, self._settings.turn
        patience = Patience(
            model.first_output_timeout_ms / 1000, model.between_outputs_timeout_ms / 1000
        )
        policy = Policy(
            patience,
            turn.early_start_ms,
            turn.longest_turn_ms,
            model.tool_style,
            turn.echo_guard,
            self._model.answered_by,
        )
        voices = {name: len(pcm) // SAMPLE_BYTES for name, pcm in self._voices.items()}
        return Setup(config, policy, expires_at, voices)

    def _config(self, target: str, secret: Secret | None) -> SessionConfig:
        """The configuration that a session begins with."""
        turn = self._settings.turn
        asked = query(target).get("model")
        detection = (
            ServerVad(turn.threshold, turn.prefix_padding_ms, turn.silence_duration_ms)
            if turn.policy == "server_vad"
            else SemanticVad(turn.eagerness)
        )
        config = SessionConfig(
            id=new_id("sess"),
            model=asked[0] if asked else self._model.answered_by or self._settings.model.name,
            output_modalities=["audio"],
            instructions=self._settings.persona.instructions,
            audio=Audio(input=AudioInput(turn_detection=detection)),
            tools=[],
            tool_choice="auto",
            max_output_tokens="inf",
            expires_at=int(time.time()) + LONGEST_SESSION_S,
        )
        if secret is None:
            return config
        named = secret.patch.model
        if not asked and named is not UNSET:
            config = structs.replace(config, model=named)
        return merged(config, secret.patch)


def _address(server: Server) -> str:
    host, port = next(iter(server.sockets)).getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _select_realtime(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """Browsers carry their key in the list of subprotocols and want one of it back."""
    return Subprotocol("realtime") if "realtime" in offered else None


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
    if arguments.model_url is not None:
        changes["model"]["urls"] = arguments.model_url
    if arguments.transcription_url is not None:
        changes["transcription"]["url"] = arguments.transcription_url
    return configuration.checked(changes, "command line")


def main(argv: list[str]) -> int:
    """Run `mimo-live serve`."""
    logging.basicConfig(handlers=[to_terminal()], level="INFO")
    # It would tell of every port scan with a traceback.
    logging.getLogger("websockets").setLevel("CRITICAL")
    logging.getLogger("httpx2").setLevel("WARNING")
    arguments = _parser().parse_args(argv)
    try:
        settings = _settings(arguments)
        with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=event_loop) as runner:
            runner.run(App(settings).run())
    except (SettingsError, OSError) as error:
        print(f"mimo-live serve: {error}", file=sys.stderr)
        return 1
    return 0
