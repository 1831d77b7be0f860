"""The captions of the agent in the terminal: what was heard, once it was, and no more."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from agent.audio import samples_in
from client.dialogue import events as wire
from client.dialogue.call import Call
from client.dialogue.connection import open_connection
from client.terminal.view import Speaker
from tests.agent.test_words import CASES, Case
from tests.client.dialogue.test_connection import Peer, Shown, server

SECOND = samples_in(1000)


def captions(use: Callable[[Call], Awaitable[None]]) -> list[tuple[Speaker, str]]:
    """Do something in a call; return what it showed, the dash of a cut included."""

    async def listen(peer: Peer) -> None:
        await peer.socket.wait_closed()

    async def run() -> None:
        async with server(listen) as (url, _), open_connection(url) as connection:
            clock = asyncio.get_running_loop().time
            await use(Call(connection, shown, clock, clock, int, duck_db=-15.0))

    shown = Shown()
    asyncio.run(run())
    return shown.captions


async def answer(call: Call, item_id: str, pieces: list[tuple[int, str]], received: int) -> None:
    """Have text come in where it belongs in the sound, and so much sound."""
    so_far = 0
    for samples, text in [*pieces, (received, "")]:
        await call.apply(wire.AudioDelta("resp", item_id, bytes(2 * (samples - so_far))))
        await call.apply(wire.TranscriptDelta(item_id, text))
        so_far = samples
    await call.apply(wire.AudioDone(item_id))


async def end(call: Call, item_id: str, text: str, status: str = "completed") -> None:
    await call.apply(wire.TranscriptDone(item_id, text))
    await call.apply(wire.ResponseDone(wire.Response("resp", status)))


async def hear(call: Call, samples: int) -> None:
    call.pull(np.zeros(samples, np.int16))
    await call.report()


@pytest.mark.parametrize("case", CASES)
def test_an_interrupted_answer_is_shown_as_far_as_it_was_heard(case: Case):
    async def use(call: Call) -> None:
        await answer(call, "one", case.pieces, case.received)
        await hear(call, case.heard)
        assert call.saying == case.kept.strip()
        await call.apply(wire.SpeechStarted())
        await end(call, "one", "All of it.", "cancelled")

    kept = case.kept.strip()
    assert captions(use) == ([("agent", f"{kept} —")] if kept else [])


def test_an_answer_is_shown_when_it_was_heard_to_its_end():
    seen: list[str] = []

    async def use(call: Call) -> None:
        await answer(call, "one", [(0, "One "), (SECOND, "two.")], 2 * SECOND)
        await end(call, "one", "One two.")
        for _ in range(3):
            await hear(call, SECOND)
            seen.append(call.saying)
        await call.apply(wire.SpeechStarted())
        await answer(call, "two", [(0, "Three.")], SECOND)
        await hear(call, SECOND)
        await end(call, "two", "Three.")

    assert captions(use) == [("agent", "One two."), ("agent", "Three.")]
    assert seen == ["One", "", ""]


def test_an_answer_of_which_nothing_was_heard_is_not_shown():
    async def use(call: Call) -> None:
        await call.apply(wire.TranscriptDelta("one", "Unheard"))
        await call.apply(wire.SpeechStarted())
        await end(call, "one", "Unheard", "cancelled")
        await answer(call, "two", [(0, "Heard.")], SECOND)
        await end(call, "two", "Heard.")
        await hear(call, SECOND)

    assert captions(use) == [("agent", "Heard.")]


def test_a_conversation_that_ends_shows_what_was_heard_until_then():
    async def use(call: Call) -> None:
        await answer(call, "one", [(0, "One "), (SECOND, "two.")], 2 * SECOND)
        await end(call, "one", "One two.")
        await hear(call, SECOND)
        following = asyncio.create_task(call.receive())
        await asyncio.sleep(0)
        following.cancel()
        await asyncio.wait([following])

    assert captions(use) == [("agent", "One —")]
