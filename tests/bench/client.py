"""What `mimo-live talk` itself costs: a conversation on a virtual sound card, a stand-in model."""

import os
import pty
import subprocess
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from queue import Queue

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from tests.drivers.model_client import DATA
from tests.drivers.processes import ROOT, busy_s, command, start_server
from tests.drivers.virtual_audio import VirtualAudio, virtual_audio
from tests.fakes import stand_in

TURN_S = 8.0
"""A question of 2 s, and its answer of 5 s."""

GREETING = '{"type": "session.created", "session": {"id": "sess_1"}}'


@contextmanager
def conversation() -> Generator[tuple[VirtualAudio, str]]:
    """A sound card into which a question is spoken every 8 s, and a server that answers."""
    with (
        virtual_audio() as card,
        stand_in(first_chunk_ms=300, rtf=0.5, groups=31) as model,
        start_server(model.url.removesuffix("/v1")) as url,
    ):
        over = threading.Event()
        asking = threading.Thread(target=_ask, args=(card, over))
        asking.start()
        try:
            yield card, url
        finally:
            over.set()
            asking.join()


def _ask(card: VirtualAudio, over: threading.Event) -> None:
    while not over.is_set():
        with card.say(DATA / "weather_question.wav"):
            over.wait(TURN_S)


@contextmanager
def talking(card: VirtualAudio, url: str, *options: str) -> Generator[tuple[int, bytearray]]:
    """Run the client in a terminal of its own; give its process and what it has drawn so far."""
    parent, child = pty.openpty()
    environment = card.environment | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen(
        command("talk", "--url", url, *options),
        cwd=ROOT,
        env=environment,
        stdin=child,
        stdout=child,
        stderr=child,
    )
    os.close(child)
    drawn = bytearray()

    def draw() -> None:
        # A terminal that is gone reads as an error.
        with suppress(OSError):
            while some := os.read(parent, 65536):
                drawn.extend(some)

    drawing = threading.Thread(target=draw)
    drawing.start()
    try:
        yield process.pid, drawn
    finally:
        process.terminate()
        process.wait(20)
        drawing.join()
        os.close(parent)


def busy_percent(options: tuple[str, ...], turns: int) -> list[float]:
    """The share of one core that the client takes, turn by turn, once it has started."""
    with conversation() as (card, url), talking(card, url, *options) as (pid, _):
        time.sleep(2 * TURN_S)
        shares: list[float] = []
        for _ in range(turns):
            before, began = busy_s(pid), time.monotonic()
            time.sleep(TURN_S)
            shares.append(100 * (busy_s(pid) - before) / (time.monotonic() - began))
        return shares


def listening_s(options: tuple[str, ...], times: int) -> list[float]:
    """From the start of the program until the first of what the user says reaches a server."""
    heard: Queue[float] = Queue()

    def listen(socket: ServerConnection) -> None:
        socket.send(GREETING)
        # The client leaves after its first sound, without a goodbye.
        with suppress(ConnectionClosed):
            while b"input_audio_buffer.append" not in socket.recv(decode=False):
                pass
            heard.put(time.monotonic())

    with virtual_audio() as card, serve(listen, "127.0.0.1", 0) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        took: list[float] = []
        for _ in range(times):
            began = time.monotonic()
            with talking(card, url, *options):
                took.append(heard.get(timeout=30) - began)
        server.shutdown()
        serving.join()
    return took
