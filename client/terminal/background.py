"""A conversation on a thread of its own, so that sound never waits for a screen."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Protocol


class Conversation(Protocol):
    """What can be done in a conversation; all of it on the conversation's own loop."""

    @property
    def voices(self) -> list[str]:
        """The voices by name, as far as they are known; may be read from any thread."""
        ...

    async def run(self, url: str) -> None: ...
    async def mute(self) -> None: ...
    async def toggle_push_to_talk(self) -> None: ...
    async def push(self) -> None: ...
    async def interrupt(self) -> None: ...
    async def say(self, text: str) -> None: ...
    async def use_voice(self, name: str) -> None: ...


class Background:
    """Runs one conversation; every method is for other threads."""

    def __init__(self, conversation: Conversation, url: str):
        self.conversation = conversation
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(conversation.run(url))
        self._thread = threading.Thread(target=self._run, name="conversation", daemon=True)
        self.failure: BaseException | None = None
        """Why it ended, unless it was ended."""

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def do(self, wish: Coroutine[None, None, None]) -> None:
        """Have something done, soon; what comes too late is dropped."""
        if self._loop.is_closed():
            wish.close()
        else:
            asyncio.run_coroutine_threadsafe(wish, self._loop)

    def end(self) -> None:
        """Ask it to end."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        except BaseException as failure:
            self.failure = failure
        finally:
            self._loop.close()
