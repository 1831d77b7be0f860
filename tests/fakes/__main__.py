"""The stand-in as a program, for benchmarks; `GET /requests` tells what became of each."""

import argparse
import signal
import threading
from pathlib import Path

from tests.fakes import Fault, stand_in
from tests.fakes.wire import Reply


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes", description=__doc__)
    usual = Reply()
    parser.add_argument("--port", type=int, default=18091)
    parser.add_argument("--first-chunk-ms", type=int, default=500)
    parser.add_argument("--rtf", type=float, default=0.6)
    parser.add_argument("--chunk-groups", type=int, default=usual.chunk_groups)
    parser.add_argument("--groups", type=int, default=32, help="length of a reply, 160 ms each")
    parser.add_argument("--text", default=usual.text)
    parser.add_argument("--heard", default=usual.heard, help="what the recogniser understands")
    parser.add_argument("--at-once", type=int, default=1, help="replies made at the same time")
    parser.add_argument("--speak", type=Path, help="WAV files for instructions `speak: NAME`")
    parser.add_argument("--fault", type=Fault, action="append", default=[], choices=list(Fault))
    options = vars(parser.parse_args())
    always = frozenset(options.pop("fault"))
    stop = threading.Event()

    def end(_number: int, _frame: object) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    with stand_in(always=always, **options) as model:
        print(f"listening on {model.url}", flush=True)
        print("ready", flush=True)
        stop.wait()


main()
