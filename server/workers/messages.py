"""What a server and its workers say to each other: a line of JSON each, over the worker's pipes."""

import msgspec
from msgspec import Struct

from agent.workers import Place
from server.settings import Settings


class Start(Struct, frozen=True, tag=True):
    """The first line that a worker reads."""

    settings: Settings
    """With the port that all listen on."""
    place: Place
    folder: str
    """Where the workers find each other."""


class Recogniser(Struct, frozen=True, tag=True):
    """Where the recogniser is that all workers ask, or why there is none."""

    url: str = ""
    problem: str = ""


class Listening(Struct, frozen=True, tag=True):
    """A worker accepts connections."""

    address: str
    """With its scheme, such as `ws://127.0.0.1:8080`."""


class Failed(Struct, frozen=True, tag=True):
    """A worker can't start; whoever started it says why, once for all."""

    why: str


class AskForRecogniser(Struct, frozen=True, tag=True):
    """There is something to write down."""


ToWorker = Start | Recogniser
FromWorker = Listening | Failed | AskForRecogniser

_reads_server = msgspec.json.Decoder[ToWorker](ToWorker)
_reads_worker = msgspec.json.Decoder[FromWorker](FromWorker)


def line(message: ToWorker | FromWorker) -> bytes:
    return msgspec.json.encode(message) + b"\n"


def from_server(text: bytes) -> ToWorker:
    return _reads_server.decode(text)


def from_worker(text: bytes) -> FromWorker:
    return _reads_worker.decode(text)
