"""A recogniser of our own, in a process of its own: started when it is first wanted."""

import asyncio
import logging
import os
import re
import sys
from contextlib import suppress

from agent.errors import ModelError

log = logging.getLogger(__name__)

START_TIMEOUT_S = 60.0
"""Its models come from slow disks, too, and at the lowest priority."""
GRACE_S = 5.0
"""Between asking a recogniser to end and killing it; the end of the server waits for it."""


class Recogniser:
    """Starts it, anew if it has ended, and ends it."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._url = ""
        self._starting = asyncio.Lock()

    async def url(self) -> str:
        """Have one running; return its URL.

        Raises:
            ModelError: If it doesn't start.
        """
        async with self._starting:
            if not self._url or self._process is None or self._process.returncode is not None:
                self._url = ""
                self._url = await self._start()
            return self._url

    async def close(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), GRACE_S)
            except TimeoutError:
                self._process.kill()

    async def _start(self) -> str:
        """Start one at the lowest priority; return its URL."""
        log.info("starting a recogniser for transcripts")
        self._process = process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-u", "-m", "server.embedded.child"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, 10)
        assert process.stdout is not None
        url, last = "", ""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                async for line in process.stdout:
                    last = line.decode(errors="replace").strip()
                    if found := re.search(r"listening on (http://\S+)", last):
                        url = found[1]
                    if last.startswith("ready"):
                        return url
        except TimeoutError:
            process.kill()
        except asyncio.CancelledError:
            # Whoever wanted it first is gone; nobody would find the process again.
            process.kill()
            raise
        message = f"the recogniser did not start: {last}"
        raise ModelError(message, code="transcription_unavailable")
