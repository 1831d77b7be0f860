"""Replicas looked after: which model each serves, when one is down, and what is said of it."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import pytest
from websockets.sync.client import connect

from agent.commands import AskModel
from agent.model.output import ChatMessage, Ended, Failed, Output
from server.model.replica import Condition
from server.model.router import ModelRouter
from server.settings import checked
from server.web.health import health
from tests.drivers.model_client import Json
from tests.drivers.processes import start_server
from tests.drivers.website import website
from tests.fakes import Fault, StandIn, stand_in

UP = Condition("healthy", "MiMo-Audio-7B-Instruct")
DOWN = Condition("down", "MiMo-Audio-7B-Instruct")


class Journal(logging.Handler):
    """What is logged, to be waited for line by line."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")
        self._loop.call_soon_threadsafe(self._queue.put_nowait, self.lines[-1])

    async def next(self) -> str:
        return await asyncio.wait_for(self._queue.get(), 20)


@asynccontextmanager
async def watched(*urls: str) -> AsyncGenerator[tuple[ModelRouter, Journal]]:
    server = ModelRouter(checked({"model": {"urls": urls}}, "test"))
    journal, logger = Journal(), logging.getLogger("server.model.replica")
    logger.addHandler(journal)
    watch = asyncio.create_task(server.watch())
    try:
        yield server, journal
    finally:
        logger.removeHandler(journal)
        watch.cancel()
        await asyncio.wait([watch])
        await server.close()


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await asyncio.wait_for(body(), 60)

    asyncio.run(whole())


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "server.model.replica")
    monkeypatch.setattr("server.model.replica.LOOK_EVERY_S", 0.02)
    monkeypatch.setattr("server.model.replica.FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr("server.model.replica.LONGEST_PAUSE_S", 0.05)


async def reply(server: ModelRouter) -> Output:
    question = AskModel("resp_1", [ChatMessage("user", "Hello.")], "audio", None)
    async with aclosing(server.client().reply(question)) as outputs:
        return [output async for output in outputs][-1]


def test_a_replica_that_says_how_many_replies_it_makes_is_compared_with_the_setting():
    async def lines(told: bool) -> list[str]:
        model.tells_seats = told
        async with watched(model.url) as (_, journal):
            await looked_at(model, 2)
            return journal.lines[1:]

    async def body() -> None:
        assert await lines(told=False) == []
        warned = f"WARNING the model server at {model.url} makes 4 replies at once, "
        assert await lines(told=True) == [f"{warned}but model.replies_at_once says 1"]

    with stand_in(at_once=4) as model:
        run(body)


async def looked_at(model: StandIn, times: int) -> None:
    """Wait for so many more looks, or for what came instead of them."""
    before = len(model.requests)
    await asyncio.to_thread(model.wait, lambda: len(model.requests) >= before + 2 * times)


def test_at_the_start_a_line_says_which_model_is_served_and_nothing_is_asked_of_it():
    async def body() -> None:
        async with watched(model.url) as (server, journal):
            assert server.conditions == [Condition("unknown")]
            assert server.answered_by == ""
            assert await journal.next() == (
                f"INFO the model server at {model.url} answers; it serves MiMo-Audio-7B-Instruct"
            )
            assert server.conditions == [UP]
            assert server.answered_by == "MiMo-Audio-7B-Instruct"
            await looked_at(model, 3)
            assert len(journal.lines) == 1

    with stand_in() as model:
        run(body)
        assert model.chats == []


def test_a_model_that_dies_while_nobody_talks_is_logged_once_and_again_when_it_is_back():
    async def body() -> None:
        async with watched(model.url) as (server, journal):
            await journal.next()
            model.healthy = False
            assert await journal.next() == (
                f"WARNING the model server at {model.url} does not answer: engine is dead"
            )
            assert server.conditions == [DOWN]
            assert server.answered_by == ""
            await looked_at(model, 5)
            model.serves, model.healthy = "MiMo-Audio-8B", True
            back = await journal.next()
            assert back.startswith(f"INFO the model server at {model.url} answers again, after ")
            assert back.endswith("; it serves MiMo-Audio-8B")
            assert server.conditions == [Condition("healthy", "MiMo-Audio-8B")]
            assert len(journal.lines) == 3

    with stand_in() as model:
        run(body)


def test_requests_that_fail_at_a_dead_model_add_no_lines():
    async def body() -> None:
        async with watched(model.url) as (server, journal):
            await journal.next()
            model.always = frozenset({Fault.ERROR_BEFORE})
            for _ in range(4):
                assert isinstance(await reply(server), Failed)
            assert "does not answer: stage-0 exploded" in await journal.next()
            for _ in range(4):
                assert isinstance(await reply(server), Failed)
            model.always = frozenset()
            assert "answers again" in await journal.next()
            assert isinstance(await reply(server), Ended)
            assert len(journal.lines) == 3

    with stand_in() as model:
        run(body)


def test_a_model_that_is_not_there_yet_is_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://user:secret@127.0.0.1:{port}/v1"

    async def body() -> None:
        async with watched(url) as (server, journal):
            assert await journal.next() == (
                f"WARNING the model server at http://127.0.0.1:{port}/v1 does not answer: "
                "the model server can't be reached"
            )
            assert server.conditions == [Condition("down")]
            with stand_in(port=port):
                assert "answers again, after " in await journal.next()
                assert server.conditions == [UP]

    run(body)


def test_each_replica_is_looked_after_by_itself_in_the_order_of_the_configuration():
    async def body() -> None:
        async with watched(one.url, two.url) as (server, journal):
            for _ in range(2):
                await journal.next()
            for _ in range(3):
                assert isinstance(await reply(server), Ended)
            one.healthy, two.serves = False, "another"
            assert one.url in await journal.next()
            assert server.conditions[0] == DOWN
            await looked_at(two, 2)
            assert server.conditions[1] == Condition("healthy", "another")
            assert server.answered_by == "another"

    with stand_in() as one, stand_in() as two:
        run(body)


@pytest.mark.parametrize(
    ("status", "said", "condition"),
    [
        (404, b"{}", Condition("healthy")),
        (200, b"<html>", Condition("healthy")),
        (200, b'{"data": []}', Condition("healthy")),
        (200, b'{"data": [{"id": 7}]}', Condition("healthy")),
        (200, b'{"data": [{"id": "x"}, {"id": "MiMo-Audio-7B-Instruct"}]}', UP),
        (200, b'{"data": [{"id": "' + b"x" * 9_999 + b'"}]}', Condition("healthy", "x" * 200)),
        (503, b"{}", Condition("down")),
    ],
)
def test_what_a_server_says_of_its_models_need_not_be_as_expected(
    status: int, said: bytes, condition: Condition
):
    async def body(url: str) -> None:
        async with watched(url) as (server, journal):
            await journal.next()
            assert server.conditions == [condition]

    with website(status, "application/json", said) as url:
        run(lambda: body(url))


@pytest.mark.parametrize(
    ("states", "status", "is_ready"),
    [
        ([UP, UP], "healthy", True),
        ([Condition("unknown")], "healthy", True),
        ([UP, DOWN], "degraded", True),
        ([DOWN, DOWN], "unavailable", False),
    ],
)
def test_a_server_is_ready_as_long_as_one_replica_may_answer(
    states: list[Condition], status: str, is_ready: bool
):
    found = health(3, 1, states)
    assert (found.status, found.is_ready) == (status, is_ready)
    assert (found.sessions, found.stuck, found.replicas) == (3, 1, states)


def begun(url: str, query: str, **extensions: bool) -> tuple[Json, Json]:
    """How a session is shown at its beginning, and once extensions were asked for."""
    with connect(f"{url}/v1/realtime{query}") as client:
        created = json.loads(client.recv(timeout=10))
        wish = {"type": "session.update", "session": {"type": "realtime", "x_mimo": extensions}}
        client.send(json.dumps(wish))
        updated = json.loads(client.recv(timeout=10))
    return created["session"], updated["session"]["x_mimo"]


@pytest.mark.system
def test_a_session_is_named_as_asked_and_says_which_model_answers():
    with stand_in() as model:
        model.serves = "embedded/SmolLM2-135M"
        with start_server(model.url.removesuffix("/v1")) as url:
            model.wait(lambda: any(each.path == "/health" for each in model.requests))
            while begun(url, "")[0]["model"] != "embedded/SmolLM2-135M":
                pass
            created, granted = begun(url, "?model=gpt-realtime", marks=True, resume=True)
            assert created["model"] == "gpt-realtime"
            assert granted["answered_by"] == "embedded/SmolLM2-135M"
            assert granted["resume_token"]
            granted = begun(url, "", duck=True)[1]
            assert granted["answered_by"] == "embedded/SmolLM2-135M"
            assert "resume_token" not in granted


@pytest.mark.system
def test_what_nobody_knows_is_not_said():
    with start_server("http://127.0.0.1:9") as url:
        created, granted = begun(url, "", duck=True)
    assert created["model"] == "MiMo-Audio-7B-Instruct"
    assert "answered_by" not in granted
