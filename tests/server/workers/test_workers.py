"""Several processes behind one port are one server: its sessions, secrets, health and end.

The system chooses who accepts a connection, so clients come until every worker had one.
"""

import asyncio
import json
import os
import re
import select
import signal
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from agent.errors import SettingsError
from server.settings import Listen, Settings
from server.workers.parent import Parent
from tests.drivers.certificate import made_in
from tests.drivers.processes import ROOT, children, command
from tests.drivers.resuming import DELTA, Client, address, client, line, serve
from tests.fakes import Reply, StandIn, stand_in

pytestmark = pytest.mark.system

MANY = 60
"""Connections of which each worker gets some, all but once in 2 ** 59 times."""
KEY = "sk-" + "k" * 40
SLOW = Reply(groups=20, chunk_groups=1, rtf=0.1)


class Server(NamedTuple):
    process: subprocess.Popen[str]
    url: str
    tls: ssl.SSLContext | None
    model: StandIn

    @property
    def workers(self) -> list[int]:
        """Their processes."""
        return children(self.process.pid)

    def client(self, key: str = KEY, **query: str) -> AbstractAsyncContextManager[Client]:
        return client(self.url, self.tls, key, **query)

    def ask(self, path: str, body: object = None) -> dict[str, Any]:
        """Ask over HTTP, with the key."""
        where = self.url.replace("ws", "http", 1).replace("/v1/realtime", path)
        sent = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        request = urllib.request.Request(where, sent, headers)
        with urllib.request.urlopen(request, context=self.tls, timeout=10) as answer:
            return json.load(answer)

    def accepted(self, port: int) -> int:
        """The worker that accepted the connection of a client at that port."""
        server, rows = urlsplit(self.url).port, Path("/proc/net/tcp").read_text().splitlines()
        ends = [(row.split()[1], row.split()[2], row.split()[9]) for row in rows[1:]]
        [inode] = [
            inode
            for here, there, inode in ends
            if here.endswith(f":{server:04X}") and there.endswith(f":{port:04X}")
        ]
        [holder] = [each for each in self.workers if f"socket:[{inode}]" in files(each)]
        return holder


def files(process: int) -> list[str]:
    found: list[str] = []
    for each in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(each.readlink()))
    return found


@contextmanager
def started(folder: Path, *, tls: bool = False, transcription: str = "off") -> Generator[Server]:
    """Two workers, and a stand-in for the model."""
    (folder / "key").write_text(KEY)
    # What ends a server told twice is not that the time is over.
    listen = f'workers = 2\ndrain_s = 600\napi_key_file = "{folder}/key"'
    trusting = None
    if tls:
        certificate, key = made_in(folder)
        listen += f'\ncertificate = "{certificate}"\ncertificate_key = "{key}"'
        trusting = ssl.create_default_context(cafile=str(certificate))
    with (
        stand_in(at_once=4) as model,
        serve(folder, model.url, 60.0, listen=listen, transcription=transcription) as process,
    ):
        yield Server(process, address(process), trusting, model)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "TLS"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Server]:
    with started(tmp_path_factory.mktemp("workers"), tls=request.param) as server:
        yield server


@pytest.fixture
def own(tmp_path: Path) -> Generator[Server]:
    """One whose end is part of the test."""
    with started(tmp_path) as server:
        yield server


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


def ended(processes: Sequence[int]) -> list[int]:
    """Those that end within a time in which each of them should."""
    found: list[int] = []
    for each in processes:
        try:
            descriptor = os.pidfd_open(each)
        except ProcessLookupError:
            found.append(each)
            continue
        found += [each] if select.select([descriptor], [], [], 10)[0] else []
        os.close(descriptor)
    return found


@asynccontextmanager
async def one_at_each(server: Server, key: str = KEY) -> AsyncGenerator[list[Client]]:
    """A client at either worker."""
    async with AsyncExitStack() as stack:
        found: dict[int, Client] = {}
        for _ in range(MANY):
            async with AsyncExitStack() as attempt:
                came = await attempt.enter_async_context(server.client(key))
                worker = server.accepted(came.port)
                if worker not in found:
                    found[worker] = came
                    stack.push_async_exit(attempt.pop_all())
            if len(found) == 2:
                break
        yield [found[worker] for worker in sorted(found)]


@asynccontextmanager
async def resumed_elsewhere(server: Server, lost: Client) -> AsyncGenerator[Client]:
    """Come back to a session at the worker that doesn't have it."""
    home = server.accepted(lost.port)
    lost.cut_line()
    for _ in range(MANY):
        async with server.client(resume=lost.token, after=lost.last_id) as back:
            assert back.session_id == lost.session_id
            back.events = [*lost.events]
            if server.accepted(back.port) != home:
                yield back
                return
            back.cut_line()
        lost = back
    raise AssertionError("the same worker accepted every connection")


def test_each_worker_has_sessions_and_either_says_how_many_there_are(server: Server):
    async def talk() -> None:
        async with one_at_each(server) as clients:
            assert len(clients) == 2
            for each in clients:
                await each.start()
            assert len({each.token.split("_")[1] for each in clients}) == 2
            for _ in range(8):
                found = await asyncio.to_thread(server.ask, "/healthz")
                assert (found["sessions"], found["stuck"]) == (2, 0)

    run(talk)


def test_a_conversation_goes_on_through_another_worker(server: Server):
    async def talk() -> None:
        server.model.reply = SLOW
        async with server.client() as first:
            await first.start()
            await first.ask()
            await first.until(DELTA, 2)
            async with resumed_elsewhere(server, first) as second:
                await second.until("response.done")
                assert second.pcm == server.model.chats[-1].pcm
                await second.ask()
                await second.until("response.done")
        messages = server.model.chats[-1].body["messages"]
        assert [each["role"] for each in messages][-3:] == ["user", "assistant", "user"]

    run(talk)


def test_a_session_that_lives_elsewhere_ends_and_is_lost_like_any_other(server: Server):
    async def talk() -> None:
        async with server.client() as first:
            await first.start()
            async with resumed_elsewhere(server, first) as second:
                await second.synchronise()
                second.cut_line()
            async with server.client(resume=second.token, after=second.last_id) as third:
                assert third.session_id == first.session_id
                async with server.client(resume=third.token) as fourth:
                    # The connection before only looked open.
                    await third.wait_for_end()
                    await fourth.leave()
        async with server.client(resume=fourth.token) as stranger:
            assert stranger.session_id != first.session_id

    run(talk)


def test_a_client_secret_is_good_at_every_worker(server: Server):
    issued = server.ask(
        "/v1/realtime/client_secrets",
        {"session": {"type": "realtime", "instructions": "Speak in rhymes."}},
    )

    async def talk() -> None:
        async with one_at_each(server, issued["value"]) as clients:
            assert len(clients) == 2
            assert [each.session["instructions"] for each in clients] == ["Speak in rhymes."] * 2

    run(talk)


async def refusal(server: Server, key: str, **query: object) -> str:
    words = "&".join(f"{name}={value}" for name, value in query.items())
    headers = {"Authorization": f"Bearer {key}"}
    url = f"{server.url}?{words}"
    with pytest.raises(InvalidStatus) as refused:
        await connect(url, ssl=server.tls, additional_headers=headers)
    return json.loads(refused.value.response.body or b"")["error"]["code"]


@pytest.mark.parametrize("number", [0, 1])
def test_who_shows_a_token_but_no_key_is_refused_by_address_whoever_has_it(
    server: Server, number: int
):
    code = asyncio.run(refusal(server, "ek_guessed", resume=f"resume_{number}_{'0' * 32}"))
    assert code == "invalid_api_key"
    told = line(server.process, "server.web.refusals")
    assert "refused 127.0.0.1: GET /v1/realtime: invalid_api_key" in told


def test_a_token_of_a_worker_that_there_is_not_opens_a_session(server: Server):
    async def talk() -> None:
        for number in ("2", "0", "1", "99999", "-1"):
            async with server.client(resume=f"resume_{number}_{'0' * 32}") as stranger:
                await stranger.start()

    run(talk)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_workers_and_they_say_goodbye(own: Server, number: int):
    workers = own.workers

    async def talk() -> None:
        async with (
            own.client() as first,
            own.client() as other,
        ):
            await first.start()
            async with resumed_elsewhere(own, first) as second:
                await second.synchronise()
                own.process.send_signal(number)
                await second.wait_for_end()
                await other.wait_for_end()
                assert (second.close_code, other.close_code) == (1001, 1001)

    run(talk)
    assert own.process.wait(10) == 0
    assert ended(workers) == workers


@pytest.mark.parametrize("signals", [1, 2])
def test_an_answer_is_heard_to_its_end_unless_the_server_is_told_twice(own: Server, signals: int):
    async def talk() -> None:
        own.model.reply = Reply(groups=20 if signals == 1 else 1_000, chunk_groups=1, rtf=0.5)
        async with own.client() as speaking, own.client() as idle:
            await speaking.start()
            await speaking.ask()
            await speaking.until(DELTA, 2)
            own.process.send_signal(signal.SIGTERM)
            await idle.wait_for_end()
            if signals == 2:
                own.process.send_signal(signal.SIGTERM)
            await speaking.wait_for_end()
            assert ("response.done" in speaking.kinds) == (signals == 1)
            assert (idle.close_code, speaking.close_code) == (1001, 1001)

    run(talk)
    assert own.process.wait(10) == 0


def test_a_worker_that_is_killed_comes_back_without_its_sessions(own: Server):
    async def talk() -> None:
        async with one_at_each(own) as (first, other):
            await first.start()
            await other.start()
            killed, stays = (own.accepted(each.port) for each in (first, other))
            os.kill(killed, signal.SIGKILL)
            await first.wait_for_end()
            assert "exit status -9" in await asyncio.to_thread(line, own.process, "anew")
            async with own.client(resume=first.token) as stranger:
                assert stranger.session_id != first.session_id
            await other.synchronise()
            await asyncio.to_thread(line, own.process, "the model server at")
            async with one_at_each(own) as clients:
                assert len(clients) == 2
            assert stays in own.workers
            assert killed not in own.workers

    run(talk)


def test_no_worker_outlives_a_server_that_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    with started(tmp_path) as server:
        workers = server.workers
        assert len(workers) == 2
        assert list((tmp_path / "tmp").iterdir())
        server.process.kill()
        assert ended(workers) == workers
        assert not list((tmp_path / "tmp").iterdir())


def test_all_workers_share_one_recogniser(tmp_path: Path):
    async def talk(server: Server) -> None:
        wish: object = {"type": "realtime", "audio": {"input": {"transcription": {}}}}
        done = "conversation.item.input_audio_transcription.completed"
        async with one_at_each(server) as clients:
            for each in clients:
                await each.send("session.update", session=wish)
                await each.ask()
            for each in clients:
                await each.until(done)

    with started(tmp_path, transcription="embedded") as server:
        asyncio.run(asyncio.wait_for(talk(server), 60))
        programs = [Path(f"/proc/{each}/cmdline").read_bytes() for each in server.workers]
    assert sorted(each.split(b"\0")[-2] for each in programs) == [
        b"server.embedded.child",
        *[b"server.workers.child"] * 2,
    ]


def test_a_server_whose_workers_can_not_start_ends_with_the_reason(tmp_path: Path):
    config = tmp_path / "server.toml"
    config.write_text(f'[persona]\nvoices = "{tmp_path}/none"\n')
    words = command("serve", "--config", str(config), "--port", "0", "--workers", "3")
    ran = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
    assert ran.returncode == 1
    assert ran.stderr == f"mimo-live serve: persona.voices: {tmp_path}/none is not a folder\n"
    assert not ran.stdout


def test_no_second_server_joins_one_that_has_workers(own: Server):
    port = str(urlsplit(own.url).port)
    for workers in ("1", "2"):
        words = command("serve", "--port", port, "--workers", workers)
        ran = subprocess.run(
            words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=20
        )
        assert ran.returncode == 1
        assert re.search(rf"127.0.0.1.*{port}.*in use", ran.stderr)


def test_only_linux_is_asked_for_several_processes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SettingsError, match=r"listen\.workers: only Linux .* found 2"):
        asyncio.run(Parent(Settings(listen=Listen(port=0, workers=2))).run(print))
