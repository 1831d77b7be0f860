"""The process that starts the workers: holds their port, and starts anew whichever ends.

It serves nobody itself. Each worker accepts on the port for itself, and the system chooses one for
every connection.
"""

import asyncio
import fcntl
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from tempfile import TemporaryDirectory

from msgspec import structs

from agent.errors import AgentError, ModelError, SettingsError
from agent.workers import Place, pause_s
from server.model.recogniser import Recogniser
from server.settings import Listen, Settings
from server.signals import Asked, asked_by_signals
from server.workers import messages
from server.workers.messages import AskForRecogniser, Failed, Listening, Start

log = logging.getLogger(__name__)

END_S = 15.0
"""Between the end of a worker's sessions and killing it; clients may take 10 s to say goodbye."""


class WorkerError(AgentError):
    """A worker did not start; says why."""


class Parent:
    """Runs the workers of one server."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._recogniser = Recogniser()
        self._addresses: dict[int, str] = {}
        """Of each worker that has listened."""
        self._answers: set[asyncio.Task[None]] = set()
        """Tasks that tell a worker where the recogniser is."""
        self._all_listen = asyncio.Event()
        self._asked = Asked()

    async def run(self, announce: Callable[[str], None]) -> None:
        """Serve until SIGINT or SIGTERM.

        Args:
            announce: Told the address once all workers listen, such as `ws://127.0.0.1:8080`.

        Raises:
            WorkerError: If a worker doesn't start.
            SettingsError: If the system can't have several listen on one port.
            OSError: If the port is taken.
        """
        self._asked = asked_by_signals()
        listen = self._settings.listen
        failures: list[BaseException] = []
        with (
            reserved(listen) as port,
            _private_folder() as folder,
        ):
            settings = structs.replace(self._settings, listen=structs.replace(listen, port=port))
            try:
                async with asyncio.TaskGroup() as tasks:
                    running = [
                        tasks.create_task(self._keep(Start(settings, place, folder), tasks))
                        for place in (Place(each, listen.workers) for each in range(listen.workers))
                    ]
                    running.append(tasks.create_task(self._await_all(announce)))
                    await self._asked.to_end.wait()
                    for each in (*running, *self._answers):
                        each.cancel()
            except* WorkerError as group:
                failures += group.exceptions
            finally:
                await self._recogniser.close()
        if failures:
            raise failures[0]

    async def _await_all(self, announce: Callable[[str], None]) -> None:
        await self._all_listen.wait()
        announce(self._addresses[0])

    async def _keep(self, start: Start, tasks: asyncio.TaskGroup) -> None:
        """Have a worker running, one after the other."""
        clock = asyncio.get_running_loop().time
        while True:
            started_at = clock()
            how = await self._run(start, tasks)
            wait_s = pause_s(started_at, clock())
            log.error("%s ended: %s; it starts anew in %.0f s", start.place, how, wait_s)
            await asyncio.sleep(wait_s)

    async def _run(self, start: Start, tasks: asyncio.TaskGroup) -> str:
        """Run a worker until it ends; return how it did.

        Raises:
            WorkerError: If it ends at the server's start.
        """
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "server.workers.child"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # Ctrl-C in a terminal is for this process only, which ends them all.
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        why = ""
        try:
            process.stdin.write(messages.line(start))
            async for text in process.stdout:
                match messages.from_worker(text):
                    case Listening(address):
                        self._addresses[start.place.number] = address
                        if len(self._addresses) == start.place.of:
                            self._all_listen.set()
                    case Failed(problem):
                        why = problem
                    case AskForRecogniser():
                        answer = tasks.create_task(self._answer(process.stdin))
                        self._answers.add(answer)
                        answer.add_done_callback(self._answers.discard)
            how = why or f"exit status {await process.wait()}"
        finally:
            await self._end(process)
        if start.place.number not in self._addresses:
            raise WorkerError(why or f"{start.place} ended at its start: {how}")
        return how

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Have a worker end, which may let its sessions come to an end first."""
        ended = asyncio.ensure_future(process.wait())
        at_once = asyncio.ensure_future(self._asked.at_once.wait())
        for waits, wait_s in (([ended, at_once], self._settings.listen.drain_s), ([ended], END_S)):
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    # `terminate` would take the exit status away from asyncio if it has ended.
                    os.kill(process.pid, signal.SIGTERM)
            await asyncio.wait(waits, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        at_once.cancel()
        if not ended.done():
            process.kill()
        await ended

    async def _answer(self, to: asyncio.StreamWriter) -> None:
        """Tell a worker where the recogniser is."""
        try:
            found = messages.Recogniser(url=await self._recogniser.url())
        except ModelError as error:
            found = messages.Recogniser(problem=str(error))
        if not to.is_closing():
            to.write(messages.line(found))


@contextmanager
def _private_folder() -> Generator[str]:
    """A folder that only this user can look into, which nobody tidies up meanwhile."""
    with TemporaryDirectory(prefix="mimo-live-", ignore_cleanup_errors=True) as folder:
        held = os.open(folder, os.O_RDONLY)
        try:
            # systemd-tmpfiles deletes what is old, but for folders that somebody has locked.
            fcntl.flock(held, fcntl.LOCK_SH)
            yield folder
        finally:
            os.close(held)


@contextmanager
def reserved(listen: Listen) -> Generator[int]:
    """Hold a port that workers are to listen on; yield its number.

    Raises:
        SettingsError: If the system can't have several listen on one port.
        OSError: If the port is taken.
    """
    if sys.platform != "linux":
        raise SettingsError(
            "listen.workers: only Linux spreads connections over several processes that listen on "
            f"one port; set it to 1, found {listen.workers}"
        )
    family, kind, protocol, _, address = socket.getaddrinfo(
        listen.host or None, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]

    def bound(address: tuple[object, ...], *options: int) -> socket.socket:
        made = socket.socket(family, kind, protocol)
        for each in (socket.SO_REUSEADDR, *options):
            made.setsockopt(socket.SOL_SOCKET, each, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            made.bind(address)
        except OSError as error:
            made.close()
            where = f"{address[0]}:{address[1]}"
            raise OSError(error.errno, f"can't listen on {where}: {error.strerror}") from error
        return made

    # Without SO_REUSEPORT first, or it would join another server that listens there with workers.
    with bound(address) as alone:
        host, port, *more = alone.getsockname()
    with bound((host, port, *more), socket.SO_REUSEPORT):
        yield port
