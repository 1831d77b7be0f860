"""The recogniser alone, as the child of another program: it ends when its standard input closes.

The starter holds the other end and never writes. The system closes it however the starter
ends, so not even a killed one leaves a model behind in memory.
"""

import os
import sys
import threading

from server.embedded.app import main


def _end_with_stdin() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    sys.exit(main(["--recogniser-only", "--port", "0"]))
