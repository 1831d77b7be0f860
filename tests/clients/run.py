"""Runs others' clients, unmodified, against a real server: `python -m tests.clients.run [NAME...]`.

`make test-clients` makes an environment for each, and runs all.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.drivers.processes import ROOT, start_server
from tests.fakes import stand_in

SCRIPTS = ROOT / "tests" / "clients"
ENVIRONMENTS = ROOT / ".clients"
PYTHON = ("openai_python", "agents_python", "livekit_agents", "pipecat_ai")
NODE = ("agents_js", "openai_node")
LONGEST_S = 180
REPLY = {"groups": 25, "first_chunk_ms": 300, "rtf": 0.5}
"""4 s of sound, made in about 2 s: there is time to interrupt before it is made, and after."""


def command(name: str) -> list[str]:
    if name in PYTHON:
        return [str(ENVIRONMENTS / name / "bin" / "python"), str(SCRIPTS / f"{name}.py")]
    # A module's imports are looked for beside its file.
    for script in SCRIPTS.glob("*.mjs"):
        shutil.copy(script, ENVIRONMENTS / "node")
    return ["node", str(ENVIRONMENTS / "node" / f"{name}.mjs")]


@contextmanager
def settings(secure: bool) -> Generator[tuple[list[str], dict[str, str]], None, None]:
    """Give a server's options and a client's variables; with TLS, for a certificate of our own."""
    with TemporaryDirectory() as folder:
        config, own, key = (Path(folder, each) for each in ("server.toml", "own.pem", "key.pem"))
        new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
        about = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        files = ["-keyout", str(key), "-out", str(own)]
        if not secure:
            yield [], {}
            return
        subprocess.run([*new, *about, *files], check=True, capture_output=True)
        config.write_text(f'[listen]\ncertificate = "{own}"\ncertificate_key = "{key}"\n')
        yield ["--config", str(config)], {"NODE_EXTRA_CA_CERTS": str(own)}


def passes(name: str) -> bool:
    print(name, flush=True)
    with (
        stand_in(**REPLY) as model,
        settings(secure=name == "openai_node") as (options, variables),
        start_server(model.url.removesuffix("/v1"), *options) as url,
    ):
        try:
            done = subprocess.run(
                [*command(name), url],
                env=os.environ | variables | {"RECORDINGS": str(ROOT / "tests" / "data")},
                stderr=subprocess.PIPE,
                text=True,
                timeout=LONGEST_S,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            print(f"FAIL  it did not end in {LONGEST_S} s\n{late.stderr!r}")
            return False
    if done.returncode:
        print(done.stderr)
    return done.returncode == 0


def main() -> int:
    wanted = sys.argv[1:] or [*PYTHON, *NODE]
    failed = [name for name in wanted if not passes(name)]
    print(f"failed: {', '.join(failed)}" if failed else "all clients pass")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
