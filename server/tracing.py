"""Traces of sessions, one file each, written by a thread of their own and never waited for.

A trace that can't be written ends; its session goes on. Nothing here looks at what it writes.
"""

import asyncio
import errno
import fcntl
import logging
import os
import zlib
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from agent.trace.lines import Line, encode
from server import settings

log = logging.getLogger(__name__)

WRITTEN_EVERY_S = 1.0
"""More often asks more of the disk; less often loses more of a process that dies."""
MOST_WAITING_BYTES = 64 * 2**20
"""Of all sessions together; the largest append makes a line of 21 MiB."""
LOOKED_AFTER_EVERY_BYTES = 4 * 2**20
"""The folder may grow beyond its limit by so much a session; less would list it in vain."""
NAMES = "*_sess_*.jsonl.gz"

Note = Callable[[Line], None]


class Traces:
    """All traces of one server: begins them, and deletes the oldest where they grow too large.

    Args:
        wish: Where to, and how much at most; nothing is recorded without a folder.
    """

    def __init__(self, wish: settings.Trace):
        self._folder = Folder(Path(wish.folder), wish.keep_mb * 10**6) if wish.folder else None
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="traces")
        """All that is written is written here."""
        self.waiting_bytes = 0
        """What was noted and isn't written yet, of all sessions."""

    @asynccontextmanager
    async def recording(self, session_id: str) -> AsyncGenerator[Note | None]:
        """Take notes for the time of a `with`."""
        if self._folder is None:
            yield None
            return
        file = File(self._folder, f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}_{session_id}.jsonl.gz")
        trace = _Trace(self, session_id, file)
        try:
            yield trace.note
        finally:
            await trace.close()

    def close(self) -> None:
        """Wait until everything is written; all recordings must be over."""
        self.thread.shutdown()


class _Trace:
    """The notes of one session on their way to its file."""

    def __init__(self, traces: Traces, session_id: str, file: "File"):
        self._traces = traces
        self._session_id = session_id
        self._file = file
        self._loop = asyncio.get_running_loop()
        self._lines = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None
        self._given_up = False

    def note(self, entry: Line) -> None:
        if self._given_up:
            return
        line = encode(entry)
        self._lines += line
        self._traces.waiting_bytes += len(line)
        if self._traces.waiting_bytes > MOST_WAITING_BYTES:
            self._give_up("the disk is too slow")
        elif self._timer is None:
            self._timer = self._loop.call_later(WRITTEN_EVERY_S, self._write)

    def _write(self) -> None:
        """Hand over what waits, unless the thread has not done with what it got before."""
        self._timer = None
        if self._writing is not None and not self._writing.done():
            self._timer = self._loop.call_later(WRITTEN_EVERY_S, self._write)
            return
        data, self._lines = self._lines, bytearray()
        self._writing = self._loop.run_in_executor(self._traces.thread, self._file.write, data)
        self._writing.add_done_callback(lambda done: self._wrote(len(data), done))

    def _wrote(self, count: int, done: asyncio.Future[None]) -> None:
        self._traces.waiting_bytes -= count
        if (error := done.exception()) is not None:
            self._give_up(error)

    def _give_up(self, why: object) -> None:
        """A trace with a gap can't be replayed, so it ends here."""
        if not self._given_up:
            log.warning("%s: recording stopped: %s", self._session_id, why)
        self._given_up = True
        self._traces.waiting_bytes -= len(self._lines)
        self._lines = bytearray()

    async def close(self) -> None:
        """Write what is left and close the file; never fails."""
        if self._timer is not None:
            self._timer.cancel()
        if self._writing is not None:
            await asyncio.wait([self._writing])
        if self._lines:
            self._write()
        closing = self._loop.run_in_executor(self._traces.thread, self._file.close)
        await asyncio.wait([*([self._writing] if self._writing else []), closing])
        if (error := closing.exception()) is not None:
            self._give_up(error)


class Folder:
    """Where the traces are; used by their thread only."""

    def __init__(self, path: Path, most_bytes: int):
        self.path = path
        self._most_bytes = most_bytes

    def make_room(self) -> None:
        """Delete the oldest traces until all together are small enough.

        Raises:
            OSError: If those that are being written are too large already.
        """
        # Their names begin with the time.
        sizes: dict[Path, int] = {}
        for path in sorted(self.path.glob(NAMES)):
            with suppress(FileNotFoundError):
                sizes[path] = path.lstat().st_size
        excess = sum(sizes.values()) - self._most_bytes
        for path, size in sizes.items():
            if excess > 0 and not _is_being_written(path):
                path.unlink(missing_ok=True)
                excess -= size
        if excess > 0:
            raise OSError(errno.EDQUOT, "the running sessions already take trace.keep_mb")


class File:
    """The file of one session, made with its first lines; used by the traces' thread only."""

    def __init__(self, folder: Folder, name: str):
        self._folder = folder
        self._path = folder.path / name
        self._packer = zlib.compressobj(1, wbits=zlib.MAX_WBITS | 16)
        self._descriptor: int | None = None
        self._failed = False
        self._unlooked = 0
        """Bytes since the folder's size was looked at."""

    def write(self, lines: bytearray) -> None:
        """Append lines, so that they can be read whatever happens next.

        Raises:
            OSError: If they can't be written; the file gets nothing more then.
        """
        if self._failed:
            return
        self._failed = True
        if self._descriptor is None:
            self._open()
        self._append(self._packer.compress(lines) + self._packer.flush(zlib.Z_SYNC_FLUSH))
        self._failed = False

    def close(self) -> None:
        """End the file.

        Raises:
            OSError: If that fails; it is closed even so.
        """
        if self._descriptor is None:
            return
        try:
            if not self._failed:
                self._append(self._packer.flush())
        finally:
            os.close(self._descriptor)

    def _open(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.make_room()
        only_new = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self._descriptor = os.open(self._path, only_new, 0o600)
        # So that nobody deletes it meanwhile, another process with the same folder least of all.
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def _append(self, data: bytes) -> None:
        assert self._descriptor is not None
        left = memoryview(data)
        while left:
            left = left[os.write(self._descriptor, left) :]
        self._unlooked += len(data)
        if self._unlooked > LOOKED_AFTER_EVERY_BYTES:
            self._unlooked = 0
            self._folder.make_room()


def _is_being_written(path: Path) -> bool:
    with suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
