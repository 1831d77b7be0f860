"""Client secrets that every worker takes: one file each, in the workers' own folder.

A secret is on disk before the answer that tells it, so a client may go to any worker with it at
once. Handing its connections to the worker that issued it would do as well, but a service that asks
for all its secrets over one connection would have one worker hold all its sessions.

A file is named by the hash of its secret. Who guesses at one makes a worker look for a file that is
not there, some microseconds beside the handshake, and learns nothing from how long that takes.
"""

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from agent.realtime.config import SessionPatch


class _Kept(msgspec.Struct, frozen=True):
    expires_at: int
    patch: SessionPatch


class SecretFiles:
    """Secrets of all workers, by their values."""

    def __init__(self, folder: Path):
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        self._sweep()

    def _sweep(self) -> None:
        """Delete what expired, of a worker that is no more and did not do it."""
        for file in self._folder.iterdir():
            with suppress(FileNotFoundError):
                if file.stat().st_mtime < time.time():
                    file.unlink()

    def keep(self, value: str, expires_at: int, patch: SessionPatch) -> None:
        """Make a secret known to all.

        Raises:
            OSError: If there is no room for it.
        """
        file = self._file(value)
        file.write_bytes(msgspec.json.encode(_Kept(expires_at, patch)))
        os.utime(file, (expires_at, expires_at))

    def forget(self, value: str) -> None:
        self._file(value).unlink(missing_ok=True)

    def find(self, value: str) -> tuple[int, SessionPatch] | None:
        """When a secret expires, and what it opens sessions with."""
        try:
            kept = msgspec.json.decode(self._file(value).read_bytes(), type=_Kept)
        except FileNotFoundError:
            return None
        return kept.expires_at, kept.patch

    def _file(self, value: str) -> Path:
        return self._folder / hashlib.sha256(value.encode("latin-1")).hexdigest()
