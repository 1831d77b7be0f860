"""A server that is asked over TLS and speaks none, or the reverse, is told from a dead one."""

import asyncio
import ssl
import subprocess

import pytest
from websockets.asyncio.server import ServerConnection, serve

from client.dialogue.socket import UnreachableError, reach

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """What a server needs to speak TLS, with a certificate that nobody trusts."""
    folder = tmp_path_factory.mktemp("certificate")
    certificate, key = str(folder / "own.pem"), str(folder / "own.key")
    how = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    words = ["openssl", "req", *how.split(), "-keyout", key, "-out", certificate]
    subprocess.run(words, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def reason(scheme: str, tls: ssl.SSLContext | None) -> str:
    """Why a server can't be reached, with its port left out."""

    async def meet(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async def run() -> str:
        async with serve(meet, "127.0.0.1", 0, ssl=tls) as listening:
            port = next(iter(listening.sockets)).getsockname()[1]
            with pytest.raises(UnreachableError) as refusal:
                await reach(f"{scheme}://127.0.0.1:{port}")
            return str(refusal.value).replace(f":{port}", "")

    return asyncio.run(run())


@pytest.mark.parametrize("scheme", ["ws", "http"])
def test_a_server_that_speaks_tls_is_to_be_asked_so(scheme: str, tls: ssl.SSLContext):
    assert reason(scheme, tls) == (
        f"can't reach a conversation server at {scheme}://127.0.0.1: "
        "the server speaks TLS: use wss://127.0.0.1/v1/realtime"
    )


@pytest.mark.parametrize("scheme", ["wss", "https"])
def test_a_server_that_speaks_no_tls_is_to_be_asked_so(scheme: str):
    assert reason(scheme, None) == (
        f"can't reach a conversation server at {scheme}://127.0.0.1: "
        "the server does not speak TLS: use ws://127.0.0.1/v1/realtime"
    )


def test_a_certificate_that_is_not_trusted_is_another_matter(tls: ssl.SSLContext):
    assert "certificate verify failed" in reason("wss", tls)
