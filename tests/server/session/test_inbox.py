"""The inbox: order, room, deadlines that move, and being woken."""

import asyncio
import gc
import weakref
from collections.abc import Coroutine
from typing import Any

from agent.trace.inputs import Busy, DeadlinePassed
from server.session.inbox import Inbox

ONE, TWO, THREE = Busy(True), Busy(False), Busy(True)


def run(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(body, 10))


def test_what_was_put_comes_in_order_however_late_the_deadline():
    async def body() -> None:
        inbox = Inbox(3)
        for each in (ONE, TWO, THREE):
            await inbox.put(each)
        past = asyncio.get_running_loop().time() - 1
        assert [await inbox.get(past) for _ in range(3)] == [ONE, TWO, THREE]
        assert await inbox.get(past) == DeadlinePassed()

    run(body())


def test_who_fills_it_waits_while_it_is_full():
    async def body() -> None:
        inbox = Inbox(1)
        async with asyncio.TaskGroup() as tasks:
            filling = [tasks.create_task(inbox.put(each)) for each in (ONE, TWO, THREE)]
            await asyncio.sleep(0)
            assert [each.done() for each in filling] == [True, False, False]
            assert [await inbox.get(None) for _ in range(3)] == [ONE, TWO, THREE]
        assert not len(inbox)

    run(body())


def test_who_gives_up_filling_takes_no_room():
    async def body() -> None:
        inbox = Inbox(1)
        await inbox.put(ONE)
        filling = asyncio.create_task(inbox.put(TWO))
        await asyncio.sleep(0)
        filling.cancel()
        assert await inbox.get(None) == ONE
        await inbox.put(THREE)
        assert await inbox.get(None) == THREE

    run(body())


def test_a_deadline_that_moved_away_does_not_pass_and_one_that_came_nearer_does():
    async def body() -> None:
        inbox, clock = Inbox(1), asyncio.get_running_loop().time
        for wait_s in (0.02, 0.2, 0.05):
            waiting = asyncio.create_task(inbox.get(clock() + wait_s))
            await asyncio.sleep(0)
            await inbox.put(ONE)
            assert await waiting == ONE
        began = clock()
        assert await inbox.get(began + 0.1) == DeadlinePassed()
        assert clock() - began >= 0.1
        began = clock()
        waiting = asyncio.create_task(inbox.get(began + 30))
        await asyncio.sleep(0)
        await inbox.put(ONE)
        assert await waiting == ONE
        assert await inbox.get(clock() + 0.01) == DeadlinePassed()

    run(body())


def test_being_woken_is_no_input():
    async def body() -> None:
        inbox = Inbox(1)
        waiting = asyncio.create_task(inbox.get(None))
        await asyncio.sleep(0)
        inbox.wake()
        inbox.wake()
        assert await waiting is None
        assert await inbox.get(asyncio.get_running_loop().time()) == DeadlinePassed()

    run(body())


def test_whoever_was_busy_when_it_was_woken_is_told_after_what_waits():
    async def body() -> None:
        inbox = Inbox(1)
        inbox.wake()
        await inbox.put(ONE)
        assert await inbox.get(None) == ONE
        assert await inbox.get(None) is None

    run(body())


def test_a_session_that_is_over_is_not_kept_by_its_alarm():
    async def body() -> None:
        loop = asyncio.get_running_loop()
        inbox = Inbox(1)
        waiting = asyncio.create_task(inbox.get(loop.time() + 3600))
        await asyncio.sleep(0)
        inbox.close()
        gone = weakref.ref(inbox)
        waiting.cancel()
        await asyncio.wait([waiting])
        del inbox, waiting
        gc.collect()
        assert gone() is None

    run(body())
