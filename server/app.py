"""The conversation server: accepts or refuses clients, gives each a session, drains on a signal."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import cast

from msgspec import UNSET, structs
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from agent.audio import SAMPLE_BYTES
from agent.keys import SERVER
from agent.policy import Patience, Policy
from agent.realtime.config import Audio, AudioInput, SemanticVad, ServerVad, SessionConfig
from agent.realtime.merge import merged
from agent.trace.recorder import Recorder, Setup
from agent.workers import ALONE
from server.auth import Authenticator, Secret, check_exposure
from server.keys import find_key
from server.memory import give_back
from server.model.router import ModelRouter
from server.model.transcription import MOST_WAITING, Transcriber
from server.model.voice_samples import load_voices
from server.session.budget import Budget
from server.session.connection import Connection
from server.session.ids import new_id
from server.session.registry import MOST_AWAY, SessionRegistry, asked
from server.session.socket import ClientSocket
from server.settings import Settings
from server.signals import asked_by_signals
from server.tls import certificate
from server.tracing import Traces
from server.vad import detector
from server.web import door
from server.web.client_secrets import ClientSecrets
from server.web.crowd import Crowd, places
from server.web.door import Doorway
from server.web.entrance import Entrance
from server.web.health import Health, health
from server.web.http import query
from server.web.pages import Pages
from server.web.refusals import MOST_A_MINUTE, Refusals
from server.web.site import Site
from server.workers.siblings import Siblings

log = logging.getLogger(__name__)

LARGEST_FRAME = 21 * 2**20
"""Bytes: one append may carry 15 MiB of sound, which are 20 MiB of base64, and its JSON."""
LONGEST_SESSION_S = 3_600
"""An hour, as at OpenAI; longer keeps the memory of a session that was left open."""


def announce(address: str) -> None:
    """Tell the user where the server is: `address` is `ws://127.0.0.1:8080`, say."""
    print(f"listening on {address}/v1/realtime", flush=True)
    print(f"the page is at http{address.removeprefix('ws')}/", flush=True)


class App:
    """The server of one process; sessions share nothing but settings, key and model clients.

    Args:
        siblings: If there are other processes that serve the same port.
    """

    def __init__(self, settings: Settings, siblings: Siblings | None = None):
        self._settings = settings
        self._siblings = siblings
        self._place = place = siblings.place if siblings else ALONE
        listen = settings.listen
        key = find_key(os.environ, SERVER, listen.api_key_file, "listen.api_key_file")
        check_exposure(listen.host, key)
        secrets = siblings and siblings.secrets
        self._authenticator = Authenticator(key, listen.allowed_origins, secrets)
        self._model = ModelRouter(settings, place)
        self._voices = load_voices(settings.persona)
        recogniser = siblings and siblings.recogniser
        most = place.share(MOST_WAITING)
        self._transcriber = Transcriber(settings, self._model, recogniser, most)
        self._registry = SessionRegistry(place.share(MOST_AWAY), on_change=self._count)
        in_all = place.share(listen.most_memory_mb * 2**20)
        self._budget = Budget(listen.most_session_mb * 2**20, in_all)
        self._traces = Traces(settings.trace)
        refusals = Refusals(most=place.share(MOST_A_MINUTE))
        sessions, self._waiting = places(place.share(listen.most_sessions), door.MOST_WAITING)
        crowd = Crowd(sessions, listen.most_sessions_per_address)
        self._entrance = Entrance(self._authenticator, crowd, refusals)

    async def run(self, announce: Callable[[str], None] = announce) -> None:
        """Serve until SIGINT or SIGTERM, and then until nobody speaks; a second one ends that.

        Args:
            announce: Told the address once it is listened on, such as `ws://127.0.0.1:8080`.
        """
        asked = asked_by_signals()
        listen = self._settings.listen
        tls, doorway = certificate(listen), self._doorway()
        served = partial(
            serve,
            self._serve,
            process_response=self._entrance.note_handshake,
            max_size=LARGEST_FRAME,
            compression=None,
            write_limit=2**16,
            select_subprotocol=_select_realtime,
        )
        relay = self._siblings and self._siblings.relay
        async with (
            relay.serving(served) if relay else nullcontext() as arrivals,
            served(
                listen.host,
                listen.port,
                ssl=tls,
                ssl_handshake_timeout=door.REQUEST_S if tls else None,
                reuse_port=True if relay else None,
                create_connection=cast(type[ServerConnection], doorway.connection),
            ) as server,
        ):
            announce(f"ws{'s' if tls else ''}://{_address(server)}")
            async with asyncio.TaskGroup() as tasks:
                model = tasks.create_task(self._model.watch(), name="watch the model")
                stuck = tasks.create_task(self._registry.watch(), name="watch for stuck sessions")
                await asked.to_end.wait()
                await self._drain(asked.at_once)
                model.cancel()
                stuck.cancel()
            self._registry.close()
            doorway.close()
            if arrivals:
                # A session may have begun over one of the two, and go on over the other.
                arrivals.close()
        await self._model.close()
        await self._transcriber.close()
        self._traces.close()

    async def _drain(self, at_once: asyncio.Event) -> None:
        """Let those who speak, or are answered, come to an end; but no longer than is asked."""
        if self._registry.sessions:
            log.info("ending once nobody speaks, %.0f s at most", self._settings.listen.drain_s)
        waits = [asyncio.ensure_future(each) for each in (self._registry.drain(), at_once.wait())]
        await asyncio.wait(
            waits, timeout=self._settings.listen.drain_s, return_when=asyncio.FIRST_COMPLETED
        )
        for each in waits:
            each.cancel()

    def _doorway(self) -> Doorway:
        secrets = ClientSecrets(self._authenticator, lambda secret: self._config("", secret))
        site = Site(Pages(self._settings.kiosk), secrets, self._health)
        relay = self._siblings and self._siblings.relay
        return Doorway(site, self._entrance, self._waiting, elsewhere=relay and relay.take)

    def _count(self) -> None:
        """Let the other processes know how many sessions are here."""
        if self._siblings:
            self._siblings.counts.note(self._registry.sessions, self._registry.stuck)

    def _health(self) -> Health:
        self._count()
        sessions, stuck = self._registry.sessions, self._registry.stuck
        if self._siblings:
            sessions, stuck = self._siblings.counts.total()
        return health(sessions, stuck, self._model.conditions, is_ending=self._registry.is_draining)

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
            recorder = Recorder(note, lambda kind: self._place.named(new_id(kind)))
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
