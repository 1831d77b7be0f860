"""Client secrets of several processes, in a folder of theirs."""

import time
from pathlib import Path

import pytest
from msgspec import UNSET
from websockets.datastructures import Headers

from agent.realtime import client_events as protocol
from agent.realtime.config import SessionPatch
from server import auth
from server.auth import Authenticator
from server.workers.secret_files import SecretFiles

EVERYTHING = b"""{"type":"session.update","session":{"type":"realtime","instructions":"Rhyme.",
"audio":{"input":{"turn_detection":null,"transcription":{"language":"de"}},
"output":{"voice":{"id":"v"},"speed":1.25,"format":{"type":"audio/pcmu"}}},
"tools":[{"type":"function","name":"f","parameters":{"type":"object"}}],"tool_choice":"auto",
"max_output_tokens":"inf","tracing":null,"x_mimo":{"resume":true}}}"""


def patch() -> SessionPatch:
    event = protocol.decode(EVERYTHING)
    assert isinstance(event, protocol.SessionUpdate)
    assert event.session.truncation is UNSET
    return event.session


def shown(key: str) -> Headers:
    return Headers({"Authorization": f"Bearer {key}"})


def test_what_one_issues_all_take_with_all_that_it_says(tmp_path: Path):
    one, other = (Authenticator("key", files=SecretFiles(tmp_path / "s")) for _ in range(2))
    issued = one.issue(60, patch())
    assert other.secret(shown(issued.value)) == issued
    assert one.secret(shown(issued.value)) is issued
    assert other.objection(shown(issued.value)) is None
    # One that is started anew, too.
    later = Authenticator("key", files=SecretFiles(tmp_path / "s"))
    assert later.secret(shown(issued.value)) == issued


def test_guesses_and_names_of_files_are_no_secrets(tmp_path: Path):
    files = SecretFiles(tmp_path / "s")
    one, other = (Authenticator("key", files=files) for _ in range(2))
    one.issue(60, patch())
    [file] = (tmp_path / "s").iterdir()
    for guess in (file.name, f"ek_{file.name}", "ek_", "ek_../s", "ek_\xff"):
        assert other.secret(shown(guess)) is None


def test_what_expires_is_deleted_and_opens_nothing(tmp_path: Path):
    folder = tmp_path / "s"
    one, other = (Authenticator("key", files=SecretFiles(folder)) for _ in range(2))
    old = one.issue(-1, patch())
    assert other.secret(shown(old.value)) is None
    new = one.issue(60, patch())
    assert len(list(folder.iterdir())) == 1
    assert other.secret(shown(new.value)) == new
    one.issue(-1, patch())
    SecretFiles(folder)
    assert len(list(folder.iterdir())) == 1
    assert new.expires_at > time.time()


def test_the_oldest_go_when_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(auth, "MOST_SECRETS", 5)
    one, other = (Authenticator("key", files=SecretFiles(tmp_path / "s")) for _ in range(2))
    first = one.issue(60, patch())
    for _ in range(auth.MOST_SECRETS):
        one.issue(60, patch())
    assert other.secret(shown(first.value)) is None
    assert len(list((tmp_path / "s").iterdir())) == auth.MOST_SECRETS
