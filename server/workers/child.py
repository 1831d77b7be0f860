"""One worker: a server like any other, with siblings, that ends when its standard input closes.

Whoever started it holds the other end. The system closes that however the starter ends, so not even
a killed one leaves workers behind.
"""

import asyncio
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from agent.errors import ModelError, SettingsError
from server import logs
from server.app import App
from server.event_loop import event_loop
from server.workers.counts import Counts
from server.workers.messages import (
    AskForRecogniser,
    Failed,
    FromWorker,
    Listening,
    Recogniser,
    Start,
    ToWorker,
    from_server,
    line,
)
from server.workers.relay import Relay
from server.workers.secret_files import SecretFiles
from server.workers.siblings import Siblings

GRACE_S = 5.0
"""For clients to be told goodbye once the starter is gone; a new server waits for the port."""

Tell = Callable[[FromWorker], None]


class SharedRecogniser:
    """The recogniser of all workers, which whoever started them has running."""

    def __init__(self, tell: Tell):
        self._tell = tell
        self._asked: list[asyncio.Future[Recogniser]] = []

    async def url(self) -> str:
        """Have it running; return its URL.

        Raises:
            ModelError: If it doesn't start.
        """
        asked = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        self._tell(AskForRecogniser())
        found = await asked
        if found.problem:
            raise ModelError(found.problem, code="transcription_unavailable")
        return found.url

    def take(self, message: ToWorker) -> None:
        """Give an answer to all who wait for one."""
        assert isinstance(message, Recogniser)
        asked, self._asked = self._asked, []
        for each in asked:
            if not each.done():
                each.set_result(message)


async def _serve(start: Start, lines: Iterator[bytes], tell: Tell) -> None:
    recogniser = SharedRecogniser(tell)
    loop = asyncio.get_running_loop()

    def take(message: ToWorker) -> None:
        with suppress(RuntimeError):
            # It is too late if the loop is closed.
            loop.call_soon_threadsafe(recogniser.take, message)

    folder = Path(start.folder)
    threading.Thread(target=_read, args=(lines, take, folder), daemon=True).start()
    place = start.place
    siblings = Siblings(
        place,
        Relay(place, folder),
        SecretFiles(folder / "secrets"),
        Counts(place, folder),
        recogniser.url,
    )
    app = App(start.settings, siblings)
    await app.run(lambda address: tell(Listening(address)))


def _read(lines: Iterator[bytes], take: Callable[[ToWorker], None], folder: Path) -> None:
    for each in lines:
        take(from_server(each))
    # Nobody else is left to do it.
    shutil.rmtree(folder, ignore_errors=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


def _lines() -> Iterator[bytes]:
    rest = b""
    # No file object: a thread that waits in one would hold up the end of the program.
    while data := os.read(0, 2**16):
        *whole, rest = (rest + data).split(b"\n")
        yield from whole


def main() -> int:
    # What anything prints goes to the log, and not in between what is told.
    told = os.dup(1)
    os.dup2(2, 1)

    def tell(message: FromWorker) -> None:
        os.write(told, line(message))

    lines = _lines()
    if (first := next(lines, None)) is None:
        return 1
    start = from_server(first)
    assert isinstance(start, Start)
    logs.begin(f"{start.place}: ")
    try:
        with asyncio.Runner(loop_factory=event_loop) as runner:
            runner.run(_serve(start, lines, tell))
    except (SettingsError, OSError) as error:
        tell(Failed(str(error)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
