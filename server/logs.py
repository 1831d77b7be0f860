"""The log of the server, as lines on the terminal."""

import logging

from agent.shown import printable


class _Plain(logging.Formatter):
    """What others said is logged without what a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def to_terminal(who: str = "") -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(_Plain(f"%(asctime)s %(levelname)s {who}%(name)s %(message)s"))
    return handler


def begin(who: str = "") -> None:
    """Log to the terminal from now on, without what only fills it.

    Args:
        who: Which of several processes it is, before what it says.
    """
    logging.basicConfig(handlers=[to_terminal(who)], level="INFO")
    # It would tell of every port scan with a traceback.
    logging.getLogger("websockets").setLevel("CRITICAL")
    logging.getLogger("httpx2").setLevel("WARNING")
