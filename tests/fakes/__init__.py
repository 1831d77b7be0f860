"""A stand-in for the model server: its recorded wire over real HTTP, its timing and its faults.

In a test: `with stand_in(rtf=0.5) as model:` gives a `StandIn` that listens on `model.url`.
As a program: `python -m tests.fakes --port 18091 --first-chunk-ms 500 --rtf 0.6`.
"""

from tests.fakes.http import Request
from tests.fakes.server import StandIn, stand_in
from tests.fakes.wire import Fault, Reply, sound

__all__ = ["Fault", "Reply", "Request", "StandIn", "sound", "stand_in"]
