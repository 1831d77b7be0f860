"""Tasks that live and end together."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from agent.errors import AgentError


@asynccontextmanager
async def together() -> AsyncGenerator[asyncio.TaskGroup]:
    """A task group that fails with the first error of its tasks instead of a group of errors.

    Raises:
        AgentError: If nothing else went wrong; a bug is raised with its group.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except ExceptionGroup as failures:
        foreseen, bugs = failures.split(AgentError)
        if foreseen is None or bugs is not None:
            raise
        raise foreseen.exceptions[0] from None
