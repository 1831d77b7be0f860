"""Starts the project's own programs as users do, on free ports, and ends them."""

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
_MODEL = "import sys; from server.embedded.app import main; sys.exit(main(sys.argv[1:]))"


def model_command(*arguments: str) -> list[str]:
    """Return the command line of `mimo-live model`."""
    return [sys.executable, "-c", _MODEL, *arguments]


@contextmanager
def start_model(*arguments: str) -> Generator[str, None, None]:
    """Run the embedded speech model on a free port; give its address once it is ready."""
    command = model_command("--port", "0", *arguments)
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            url = ""
            for line in process.stdout:
                if line.startswith("listening on "):
                    url = line.removeprefix("listening on ").strip()
                if line.startswith("ready"):
                    break
            else:
                raise AssertionError(f"the model did not start: {process.stderr.read()}")
            yield url
        finally:
            process.terminate()
            process.wait(10)
