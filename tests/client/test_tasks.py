"""Tasks that end together: one error is told of, and a bug is never hidden behind it."""

import asyncio

import pytest

from agent.errors import AgentError
from client.tasks import together


async def fail(*failures: Exception) -> None:
    async def one(failure: Exception) -> None:
        raise failure

    async with together() as tasks:
        for failure in failures:
            tasks.create_task(one(failure))
        await asyncio.Event().wait()


def test_the_first_error_ends_the_others_and_comes_alone():
    with pytest.raises(AgentError, match="first"):
        asyncio.run(fail(AgentError("first"), AgentError("second")))


def test_a_bug_is_raised_with_all_that_failed_beside_it():
    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(fail(AgentError("foreseen"), ValueError("a bug")))
    assert len(raised.value.exceptions) == 2
