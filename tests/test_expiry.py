"""An hour on a real socket, on a clock that a test can put forward: pings, and the end of it."""

import asyncio
import io
import json
import re
import time
from contextlib import redirect_stdout

from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

from server.app import App
from server.settings import checked

HOUR_S = 3_600
SETTINGS = checked({"listen": {"port": 0}, "turn": {"vad": "webrtc"}}, "test")


class Hasty(asyncio.SelectorEventLoop):
    """A loop whose clock can be put forward."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


class Console(io.StringIO):
    """Where the server prints its address."""

    def __init__(self) -> None:
        super().__init__()
        self.url = asyncio.get_running_loop().create_future()

    def write(self, text: str) -> int:
        if found := re.search(r"wss?://\S+", text):
            self.url.set_result(found[0])
        return len(text)


class Client(ClientConnection):
    """Notices the server's pings."""

    pinged: asyncio.Event

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame) and event.opcode is Opcode.PING:
            self.pinged.set()
        super().process_event(event)


async def idle_for_an_hour(loop: Hasty) -> None:
    Client.pinged = asyncio.Event()
    with redirect_stdout(console := Console()):
        app = asyncio.create_task(App(SETTINGS).run())
        url = await console.url
    async with connect(url, create_connection=Client, ping_interval=None) as client:
        created = json.loads(await client.recv())
        assert abs(created["session"]["expires_at"] - time.time() - HOUR_S) < 10
        loop.ahead_s += 20
        await Client.pinged.wait()
        loop.ahead_s += HOUR_S - 30
        await (await client.ping())
        loop.ahead_s += 10
        [error] = [json.loads(frame)["error"] async for frame in client]
    assert error["code"] == "session_expired"
    assert error["message"] == "Your session hit the maximum duration of 60 minutes."
    assert (client.close_code, client.close_reason) == (1001, error["message"])
    app.cancel()
    await asyncio.wait([app])


def test_an_idle_session_is_pinged_and_kept_and_after_an_hour_told_so_and_closed():
    loop = Hasty()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(asyncio.wait_for(idle_for_an_hour(loop), HOUR_S + 60))
