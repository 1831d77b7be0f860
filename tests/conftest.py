"""Programs that several files of tests talk to; each is started once, when it is first needed.

What whoever runs the tests has set for their own conversations counts for none of them.
"""

import os
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.drivers.page import CHROMIUM, Chromium, chromium
from tests.drivers.processes import start_model, start_server
from tests.drivers.scripted_server import ScriptedServer

_home = tempfile.TemporaryDirectory(prefix="mimo-live-tests-")
os.environ |= {f"XDG_{each}_HOME": f"{_home.name}/{each}" for each in ("CONFIG", "STATE", "DATA")}
for name in [each for each in os.environ if each.lower().endswith("_proxy")]:
    del os.environ[name]
# Else each of a hundred programs would compile every module anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# How long one example takes says more of the machine than of the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


STARTED = {"browser", "model_url", "server_url"}
"""Fixtures that start a program."""


# Before the plugin that reads the groups.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse what starts a program unmarked; have all that uses the model share one process."""
    for item in items:
        started = STARTED & set(getattr(item, "fixturenames", ()))
        group = "model" if started - {"browser"} else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))
        if started and not {"system", "realtime"} & {mark.name for mark in item.iter_markers()}:
            raise pytest.UsageError(f"{item.nodeid} starts a program and isn't marked `system`")


@pytest.fixture(scope="session")
def model_url() -> Iterator[str]:
    """The embedded speech model's address."""
    with start_model() as url:
        yield url


@pytest.fixture(scope="session")
def server_url(model_url: str) -> Iterator[str]:
    """Address of a conversation server that talks with the embedded speech model."""
    with start_server(model_url) as url:
        yield url


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt install chromium")
    with chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A conversation server whose side of every call is played by the test."""
    server = ScriptedServer()
    yield server
    server.stop()
