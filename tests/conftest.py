"""Programs that several files of tests talk to; each is started once, when it is first needed."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.processes import start_model, start_server

# How long one example takes says more of the machine than of the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


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
