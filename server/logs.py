"""The log of the server, as lines on the terminal."""

import logging

from agent.shown import printable


class _Plain(logging.Formatter):
    """What others said is logged without what a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def to_terminal() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(_Plain("%(asctime)s %(levelname)s %(name)s %(message)s"))
    return handler
