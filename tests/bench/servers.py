"""The servers that the load benchmark compares: ours, and those made with others' frameworks.

A peer is a script in `tests/bench/peers` with an environment of its own, which
`make .peers/NAME_server.done` makes.
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.drivers.processes import ROOT, address, child, start_server, started

OURS = "mimo-live"
PEERS = ("pipecat",)
SCRIPTS = ROOT / "tests" / "bench" / "peers"
ENVIRONMENTS = ROOT / ".peers"


@contextmanager
def running(server: str, model_url: str, config: str = "") -> Generator[tuple[str, int]]:
    """Run a server on a free port; give its address, without a path, and its process.

    Args:
        server: Ours, or the name of a peer.
        model_url: The model's API, ending in `/v1`.
        config: Of our server, in TOML.
    """
    if server == OURS:
        with TemporaryDirectory() as folder:
            file = Path(folder) / "server.toml"
            file.write_text(config)
            with start_server(model_url.removesuffix("/v1"), "--config", str(file)) as url:
                yield url, child("client.cli serve")
        return
    name = f"{server}_server"
    python = ENVIRONMENTS / name / "bin" / "python"
    if not python.exists():
        raise SystemExit(f"{server} has no environment yet; make it: make .peers/{name}.done")
    words = [str(python), str(SCRIPTS / f"{name}.py"), model_url]
    with started(words, "ready") as lines:
        yield address(lines, "ws"), child(f"{name}.py")
