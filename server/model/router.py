"""The model as sessions see it: replies from the replica that knows them."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from agent.commands import AskModel
from agent.errors import ModelError
from agent.keys import MODEL
from agent.model.admission import EarlyStart
from agent.model.context import fit
from agent.model.output import Failed, Output
from agent.model.request import chat_request
from agent.workers import ALONE, Place
from server.keys import find_key
from server.model.replica import Condition, Replica
from server.settings import Model, Settings

WRITTEN_AT_ONCE = 2**20
"""Bytes of sound that are put into a request where it is made, in 3 ms; more goes to a thread,
where it takes longer and holds up nobody."""

ASKED_AGAIN = {"model_unreachable", "model_failed", "model_cut_off"}
"""What another request may cure, if nothing was heard yet."""

SUSPICIOUS = ASKED_AGAIN | {"model_bad_chunk", "model_bad_audio", "model_bad_reply"}


class ModelRouter:
    """All replicas of the model server, for all sessions of the process.

    Args:
        place: The process asks for its share of what each replica does at once.
    """

    def __init__(self, settings: Settings, place: Place = ALONE):
        self._settings = settings.model
        key = find_key(os.environ, MODEL, settings.model.api_key_file, "model.api_key_file")
        self._configured = [
            Replica(url, seats, settings.model, key, place)
            for url, seats in settings.model.replicas
        ]
        self._replicas = self._configured

    @property
    def conditions(self) -> list[Condition]:
        """How each replica is, in the order of the configuration."""
        return [replica.condition for replica in self._configured]

    @property
    def answered_by(self) -> str:
        """What the replicas that answer serve; empty if nobody knows."""
        serving = [each for each in self.conditions if each.state == "healthy"]
        return ", ".join(dict.fromkeys(each.model for each in serving if each.model))

    def client(self) -> "ModelClient":
        """Return what one session talks to the model with."""
        return ModelClient(self, self._settings)

    def choose(self, dry_at: float, current: Replica | None, *, is_early: bool) -> Replica:
        """Return the replica for a reply: the current one as long as that can be expected to
        answer, else the healthy one that would answer first."""
        longest_s = self._settings.longest_wait_ms / 1000

        def wait_s(replica: Replica) -> float:
            return replica.wait_s(dry_at, is_early=is_early)

        if current and current.healthy and wait_s(current) <= longest_s:
            return current
        # Equals take turns, so that sessions spread.
        first, *others = self._replicas
        self._replicas = [*others, first]
        return min(self._replicas, key=lambda each: (not each.healthy, wait_s(each)))

    async def watch(self) -> None:
        """Look after all replicas; runs until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for replica in self._replicas:
                tasks.create_task(replica.watch(), name=f"watch {replica.url}")

    async def close(self) -> None:
        for replica in self._replicas:
            await replica.close()


class ModelClient:
    """One session's place: its replica, and the clips that this one has had from it."""

    def __init__(self, server: ModelRouter, settings: Model):
        self._server = server
        self._settings = settings
        self._replica: Replica | None = None
        self._known: frozenset[str] = frozenset()

    def is_busy(self) -> bool:
        """Whether a reply made in a pause now would wait for those of others."""
        now = _now()
        return self._replica is not None and self._replica.wait_s(now, is_early=True) > 0

    def keep(self, early: EarlyStart) -> None:
        """The turn of an early start is over: it gives way to nobody any more."""
        early.is_kept = True
        if self._replica is not None:
            self._replica.advance()

    async def reply(self, ask: AskModel, early: EarlyStart | None = None) -> AsyncGenerator[Output]:
        """Stream a reply; the last output says how it ended. Closing the iterator aborts it.

        What fails before anything was heard is asked once more, of another replica if there is
        one.

        Args:
            early: If it is made in a pause; `keep` says that its turn is over.
        """
        heard = False
        async with aclosing(self._once(ask, early)) as outputs:
            async for output in outputs:
                if not heard and isinstance(output, Failed) and output.error.code in ASKED_AGAIN:
                    break
                heard = True
                yield output
            else:
                return
        async with aclosing(self._once(ask, early)) as outputs:
            async for output in outputs:
                yield output

    async def _once(self, ask: AskModel, early: EarlyStart | None) -> AsyncGenerator[Output]:
        if early and early.is_kept:
            early = None
        dry_at = max(ask.playing_until, _now())
        replica = self._server.choose(dry_at, self._replica, is_early=early is not None)
        if replica is not self._replica:
            self._replica, self._known = replica, frozenset()
        try:
            async with replica.turn(dry_at, self, early):
                async with aclosing(self._request(replica, ask)) as outputs:
                    async for output in outputs:
                        if self._known and _is_cache_miss(output):
                            break
                        yield output
                    else:
                        return
                self._known = frozenset()
                async with aclosing(self._request(replica, ask)) as outputs:
                    async for output in outputs:
                        yield output
        except ModelError as busy:
            yield Failed(busy)

    async def _request(self, replica: Replica, ask: AskModel) -> AsyncGenerator[Output]:
        settings = self._settings
        most = min(ask.max_tokens or settings.max_tokens, settings.max_tokens)
        prompt, most = fit(ask.messages, most, settings.context_tokens, ask.truncation)
        keys = frozenset(message.key for message in prompt if message.key)
        known = self._known
        write = partial(
            chat_request, prompt, ask.modality, most, settings.name, ask.tools, known=known
        )
        sent = sum(len(each.pcm) for each in prompt if each.key not in known)
        body = await asyncio.to_thread(write) if sent > WRITTEN_AT_ONCE else write()
        silent_since = _now()
        try:
            async with aclosing(replica.stream(body)) as outputs:
                async for output in outputs:
                    silent_since = _now()
                    self._note(replica, keys, output)
                    yield output
        except (asyncio.CancelledError, GeneratorExit):
            if _now() - silent_since >= settings.between_outputs_timeout_ms / 1000:
                replica.suspect()
            raise

    def _note(self, replica: Replica, keys: frozenset[str], output: Output) -> None:
        """Learn from an output what the replica has, and how it is."""
        match output:
            case Failed(error):
                if error.code in SUSPICIOUS:
                    replica.suspect()
            case _:
                self._known = keys
                replica.trust()


def _is_cache_miss(output: Output) -> bool:
    return isinstance(output, Failed) and output.error.code == "model_cache_miss"


def _now() -> float:
    return asyncio.get_running_loop().time()
