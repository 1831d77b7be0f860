"""A server that is run from a configuration, and clients that lose their connection to it."""

import asyncio
import base64
import json
import ssl
import subprocess
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from agent.audio import RATE, SAMPLE_BYTES, samples_in
from tests.drivers.processes import ROOT, command

CONFIG = """
[listen]
resume_grace_s = {grace_s}
{listen}

[model]
urls = ["{url}"]

[transcription]
mode = "{transcription}"

[turn]
policy = "server_vad"
"""
DELTA = "response.output_audio.delta"

Event = dict[str, Any]


@contextmanager
def serve(
    folder: Path,
    model_url: str,
    grace_s: float,
    more: str = "",
    before: Sequence[str] = (),
    *,
    listen: str = "",
    transcription: str = "off",
) -> Generator[subprocess.Popen[str]]:
    """Run the server; its lines can be read from `stdout`, the first of which is its address.

    Args:
        more: What else its configuration says.
        before: Words of a command that runs it.
        listen: What else it says under `[listen]`.
    """
    config = folder / f"grace_{grace_s}.toml"
    values = {"grace_s": grace_s, "listen": listen, "transcription": transcription}
    config.write_text(CONFIG.format(url=model_url, **values) + more)
    words = [*before, *command("serve", "--config", str(config), "--port", "0")]
    pipe, same = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(words, cwd=ROOT, text=True, stdout=pipe, stderr=same) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=20)


def address(process: subprocess.Popen[str]) -> str:
    return line(process, "listening on").removeprefix("listening on ").strip()


def line(process: subprocess.Popen[str], wanted: str) -> str:
    """Read the server's lines up to the one that holds those words."""
    assert process.stdout is not None
    for each in process.stdout:
        if wanted in each:
            return each
    raise AssertionError(f"the server did not say {wanted!r}")


class Client:
    """One connection of a client that asked to resume."""

    def __init__(self, socket: ClientConnection, session: Event):
        self._socket = socket
        self.session = session
        self.session_id: str = session["id"]
        self.token: str = session.get("x_mimo", {}).get("resume_token", "")
        self.events: list[Event] = []

    async def start(self, detection: Event | None = None, **extensions: bool) -> None:
        wish = {"resume": True, **extensions}
        audio = {"input": {"turn_detection": detection}}
        session = {"type": "realtime", "audio": audio, "x_mimo": wish}
        await self.send("session.update", session=session)
        updated = await self.until("session.updated")
        self.token = updated["session"]["x_mimo"]["resume_token"]

    async def send(self, kind: str, **fields: object) -> None:
        await self._socket.send(json.dumps({"type": kind, **fields}))

    async def receive(self) -> Event:
        async with asyncio.timeout(10):
            event = json.loads(await self._socket.recv())
        self.events.append(event)
        return event

    async def until(self, kind: str, times: int = 1) -> Event:
        while True:
            event = await self.receive()
            times -= event["type"] == kind
            if not times:
                return event

    async def synchronise(self) -> None:
        """Wait until all that was sent has been taken in."""
        await self.send("conversation.item.delete", item_id="none")
        await self.until("error")

    async def ask(self) -> None:
        """Speak, and want an answer."""
        await self.append(bytes(SAMPLE_BYTES * RATE))
        await self.send("input_audio_buffer.commit")
        await self.send("response.create")

    async def append(self, pcm: bytes) -> None:
        step = samples_in(100) * SAMPLE_BYTES
        for start in range(0, len(pcm), step):
            sound = base64.b64encode(pcm[start : start + step]).decode()
            await self.send("input_audio_buffer.append", audio=sound)

    def cut_line(self) -> None:
        self._socket.transport.abort()

    async def leave(self) -> None:
        await self._socket.close()

    async def wait_for_end(self) -> None:
        with suppress(ConnectionClosed):
            while True:
                await self.receive()

    @property
    def port(self) -> int:
        """The client's own."""
        return self._socket.local_address[1]

    @property
    def close_code(self) -> int | None:
        return self._socket.close_code

    @property
    def close_reason(self) -> str | None:
        return self._socket.close_reason

    @property
    def last_id(self) -> str:
        return self.events[-1]["event_id"]

    @property
    def item_id(self) -> str:
        return next(event["item_id"] for event in self.events if event["type"] == DELTA)

    @property
    def pcm(self) -> bytes:
        return b"".join(
            base64.b64decode(event["delta"]) for event in self.events if event["type"] == DELTA
        )

    @property
    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]


@asynccontextmanager
async def client(
    url: str, tls: ssl.SSLContext | None = None, key: str = "none", **query: str | int
) -> AsyncGenerator[Client]:
    words = "&".join(f"{name}={value}" for name, value in query.items())
    async with connect(
        f"{url}?{words}",
        ssl=tls,
        additional_headers={"Authorization": f"Bearer {key}"},
        max_size=None,
        compression=None,
    ) as socket:
        created = json.loads(await socket.recv())
        assert created["type"] == "session.created", created
        yield Client(socket, created["session"])
