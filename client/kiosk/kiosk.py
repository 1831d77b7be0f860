"""A kiosk without a screen to touch: visitor after visitor, none of whom finds anything of another.

Nothing is recorded and nothing kept. What goes wrong is said, and tried again, for weeks; only
sound that stays dead ends the program, for whatever started it to start it anew.
"""

import asyncio
import sys
from typing import TypeVar

import msgspec

from agent.audio import SAMPLE_BYTES, Samples, samples_in
from agent.errors import AgentError
from agent.policy import KioskSettings
from client.clip_player import ticks
from client.dialogue.events import page_url
from client.dialogue.socket import UnreachableError
from client.http import FetchError, fetch
from client.kiosk.presence import Idle, Presence
from client.kiosk.self_test import SelfTest
from client.kiosk.view import KioskView
from client.live import Live, LiveOptions
from client.sound.duplex import Duplex
from client.tasks import together

TICK_S = 0.1
"""The countdown shows seconds, which must not seem to jump."""
RETRY_S = 15.0
"""Between attempts while out of service; each may play the self-test's sweep."""
LOOK_S = 5.0
"""Between looks at a server that nobody needs now: as often as it looks at its model."""

ASK_TIMEOUT_S = 5.0
"""Longer only delays saying that the kiosk is out of service."""
LARGEST_ANSWER = 2**20
"""Bytes of an answer about health, which has some hundred."""
BEFORE_BYTES = samples_in(1500) * SAMPLE_BYTES
"""How much of what was said before the start is sent."""


class DeadError(AgentError):
    """Microphone or loudspeaker have not worked for too long."""


_Found = TypeVar("_Found")


def read_settings(url: str) -> KioskSettings:
    """Ask the server.

    Raises:
        UnreachableError: If it doesn't answer.
    """
    return _asked(url, "page/kiosk.json", KioskSettings)


class _Health(msgspec.Struct, frozen=True):
    """What the server says of itself, as far as a kiosk minds."""

    status: str = "healthy"


def check_model(url: str) -> None:
    """Ask the server for its model.

    Raises:
        UnreachableError: If no model answers there, or not even the server.
    """
    if _asked(url, "healthz", _Health).status == "unavailable":
        raise UnreachableError("the server's model does not answer")


def _asked(url: str, path: str, kind: type[_Found]) -> _Found:
    """What the server says at a path beside its pages."""
    try:
        address = f"{page_url(url)}{path}"
        answer = fetch(address, timeout_s=ASK_TIMEOUT_S, largest_bytes=LARGEST_ANSWER)
        return msgspec.json.decode(answer.body, type=kind)
    except (FetchError, msgspec.DecodeError, UnicodeError) as error:
        raise UnreachableError(f"the server at {url} does not answer: {error}") from error


class Kiosk:
    """Talks with whoever comes, until sound is dead."""

    def __init__(self, duplex: Duplex, duck_db: float, view: KioskView):
        self._duplex = duplex
        self._options = LiveOptions(None, duck_db, None)
        self._view = view
        self._presence = Presence()
        self._room: Room | None = None
        self._idle: Idle | None = None
        self._tested = False
        self._dead_s = 10.0

    async def run(self, url: str) -> None:
        """Serve visitors.

        Raises:
            DeadError: If a device stays away.
        """
        loop = asyncio.get_running_loop()
        has_keys = sys.stdin.isatty()
        if has_keys:
            loop.add_reader(sys.stdin, self._key)
        try:
            async with together() as tasks:
                tasks.create_task(self._duplex.run())
                tasks.create_task(self._watch())
                tasks.create_task(self._serve(url))
        finally:
            if has_keys:
                loop.remove_reader(sys.stdin)

    async def _watch(self) -> None:
        clock = asyncio.get_running_loop().time
        self._duplex.alive_at = clock()
        async for _ in ticks(clock(), 1.0):
            if clock() - self._duplex.alive_at > self._dead_s:
                raise DeadError(f"no sound device has worked for {self._dead_s:g} s")

    async def _serve(self, url: str) -> None:
        while True:
            try:
                settings = await asyncio.to_thread(read_settings, url)
                self._dead_s = settings.dead_s
                await self._test(settings)
                await asyncio.to_thread(check_model, url)
                before = await self._attract(url, settings)
                await self._visit(url, settings, before)
            except AgentError as error:
                self._view.trouble(str(error))
                await asyncio.sleep(RETRY_S)

    async def _test(self, settings: KioskSettings) -> None:
        if self._tested or not settings.self_test:
            return
        test = SelfTest()
        # An echo canceller would take the sweep for an echo.
        self._duplex.listener, self._duplex.cleans = test, False
        try:
            await test.verdict()
        finally:
            self._duplex.listener, self._duplex.cleans = None, True
        self._tested = True

    async def _attract(self, url: str, settings: KioskSettings) -> bytearray:
        """Wait for somebody; return what was said just before."""
        self._presence.forget()
        self._room = self._duplex.listener = Room(self._presence, settings.starts_on_speech)
        ways = ["Start speaking."] if settings.starts_on_speech else []
        ways += ["Press Enter to start."] if sys.stdin.isatty() else []
        self._view.attract(settings.greeting, " ".join(ways))
        try:
            while not await self._room.somebody(LOOK_S):
                await asyncio.to_thread(check_model, url)
            return self._room.before
        finally:
            self._duplex.listener = self._room = None

    async def _visit(self, url: str, settings: KioskSettings, before: bytearray) -> None:
        live = Live(self._duplex, self._options, self._view, before=before)
        self._duplex.listener = live
        now = asyncio.get_running_loop().time()
        self._idle = Idle(settings.idle_s, settings.countdown_s, now)
        self._view.visit()
        try:
            async with together() as tasks:
                visit = tasks.create_task(live.converse(url))
                tasks.create_task(self._until_left(live, self._idle, visit))
        finally:
            self._duplex.listener = self._idle = None

    async def _until_left(self, live: Live, idle: Idle, visit: asyncio.Task[None]) -> None:
        clock = asyncio.get_running_loop().time
        async for _ in ticks(clock(), TICK_S):
            if live.is_busy:
                idle.active(clock())
            left_s = idle.left_s(clock())
            self._view.countdown(left_s)
            if left_s == 0:
                # The connection says goodbye, and the server forgets.
                visit.cancel()
                return

    def _key(self) -> None:
        sys.stdin.readline()
        if self._room is not None:
            self._room.begin()
        if self._idle is not None:
            self._idle.active(asyncio.get_running_loop().time())


class Room:
    """Whom the devices serve while nobody is there; what it hears stays here."""

    def __init__(self, presence: Presence, starts_on_speech: bool):
        self._presence = presence
        self._starts_on_speech = starts_on_speech
        self._begun = asyncio.Event()
        self.before = bytearray()

    def begin(self) -> None:
        """Somebody is there."""
        self._begun.set()

    async def somebody(self, timeout_s: float) -> bool:
        """Wait for somebody; return whether anybody came."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._begun.wait()
        except TimeoutError:
            return False

    def ready(self, safe: bool) -> None: ...

    async def hear(self, pcm: bytes, loudness: float) -> None:
        self.before += pcm
        if not self._begun.is_set():
            del self.before[:-BEFORE_BYTES]
        if self._presence.hear(loudness) and self._starts_on_speech:
            self.begin()

    async def play(self, out: Samples) -> None:
        out[:] = 0
