"""The configuration: strict, with errors that say what to change; the example lists every key."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, strategies as st

from agent.errors import SettingsError
from server.settings import Settings, checked, load

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16"]
"""What editors and shells save as, all but the first with a byte order mark."""

LOCAL = Path(__file__).parents[2] / "configs" / "local.toml"


def keys(tree: object, path: str = "") -> set[str]:
    """Paths of all values in a tree, such as `turn.vad`."""
    if not isinstance(tree, dict):
        return {path}
    found = [keys(value, f"{path}.{name}") for name, value in tree.items()]  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType, reportUnknownArgumentType]
    return set[str]().union(*found)


def test_the_example_is_the_defaults_and_lists_every_key():
    assert load(LOCAL) == Settings()
    listed = tomllib.loads(LOCAL.read_text(encoding="utf-8"))
    assert keys(listed) == keys(msgspec.to_builtins(Settings()))


def test_the_example_says_what_each_key_does():
    lines = LOCAL.read_text(encoding="utf-8").splitlines()
    for above, line in pairwise(lines):
        if re.match(r"\w+ = ", line):
            assert above.startswith("# "), f"nothing is said about {line}"


def test_a_file_may_leave_out_what_it_does_not_change(tmp_path: Path):
    file = tmp_path / "some.toml"
    file.write_text("[turn]\nsilence_duration_ms = 300\n")
    settings = load(file)
    assert settings.turn.silence_duration_ms == 300
    assert settings.turn.vad == "silero"
    assert settings.model == Settings().model


REFUSED = [
    ("[turn]\nsilence_ms = 300", ["turn.silence_ms", "no such key", "silence_duration_ms, early"]),
    ("[trun]\nvad = 'silero'", ["trun: no such key", "listen, model, transcription, turn"]),
    ("debug = true", ["debug: no such key"]),
    ("[turn]\nthreshold = 'high'", ["turn.threshold", "Expected `float`", "found 'high'"]),
    ("[turn]\nthreshold = 1", ["turn.threshold", "< 1", "found 1"]),
    ("[turn]\nsilence_duration_ms = 99", ["turn.silence_duration_ms", ">= 100", "found 99"]),
    ("[turn]\nsilence_duration_ms = 0.5", ["turn.silence_duration_ms", "`int`", "found 0.5"]),
    ("[turn]\nvad = 'best'", ["turn.vad", "one of silero, webrtc", "found 'best'"]),
    ("[listen]\nport = 65536", ["listen.port", "<= 65535", "found 65536"]),
    ("[listen]\nport = true", ["listen.port", "Expected `int`", "found True"]),
    ("[model]\nurls = ['localhost:80']", ["model.urls[0]", "https?://", "found ['localhost:80']"]),
    ("[model]\nurls = []", ["model.urls", ">= 1", "found []"]),
    ("[model]\nreplies_at_once = 0", ["model.replies_at_once", ">= 1", "found 0"]),
    ("[model]\nreplies_at_once = [4, 4]", ["model.replies_at_once", "or 1 for", "found [4, 4]"]),
    ("[model]\nreplies_at_once = []", ["model.replies_at_once", "one number", "found []"]),
    ("[model]\nurl = 'http://a/v1'", ["model.url: no such key", "allowed are urls"]),
    ("turn = 3", ["turn", "Expected `object`", "found 3"]),
    ("[model]\nmax_tokens = 1", ["model.max_tokens", ">= 16", "found 1"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "told"), REFUSED, ids=[text for text, _ in REFUSED])
def test_a_bad_value_is_refused_with_its_key_what_was_found_and_what_is_allowed(
    text: str, told: list[str], tmp_path: Path
):
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as refused:
        load(file)
    for words in [str(file), *told]:
        assert words in str(refused.value)


@pytest.mark.parametrize("content", [b"[turn", b"\xff", b"a = 1\na = 2", None])
def test_a_file_that_is_no_toml_is_refused_by_name(content: bytes | None, tmp_path: Path):
    file = tmp_path / "bad.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=re.escape(str(file))):
        load(file)


def test_replies_at_once_are_of_all_replicas_or_of_each():
    urls = ["http://a/v1", "http://b/v1"]

    def seats(replies_at_once: int | list[int]) -> list[tuple[str, int]]:
        tree = {"model": {"urls": urls, "replies_at_once": replies_at_once}}
        return checked(tree, "test").model.replicas

    assert seats(4) == [("http://a/v1", 4), ("http://b/v1", 4)]
    assert seats([1, 8]) == [("http://a/v1", 1), ("http://b/v1", 8)]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
KEYS = sorted(path.strip(".") for path in keys(msgspec.to_builtins(Settings())))


@given(st.sampled_from(KEYS), VALUES)
def test_any_value_is_taken_as_it_is_or_refused_with_its_key(path: str, value: object):
    table, name = path.split(".")
    try:
        settings = checked({table: {name: value}}, "test")
    except SettingsError as error:
        told = str(error)
    else:
        found = msgspec.to_builtins(settings)[table][name]
        assert (list(found) if isinstance(found, tuple) else found) == value  # pyright: ignore[reportUnknownArgumentType]
        return
    assert path in told
    assert "found" in told


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_file_is_read_as_editors_and_shells_save_it(encoding: str, tmp_path: Path):
    file = tmp_path / "voice.toml"
    file.write_bytes('[persona]\r\ninstructions = "Sprich kürzer."\r\n'.encode(encoding))
    assert load(file).persona.instructions == "Sprich kürzer."


def test_a_file_that_is_no_text_is_named(tmp_path: Path):
    file = tmp_path / "voice.toml"
    file.write_bytes(b"\xfe[persona]")
    with pytest.raises(SettingsError, match=f"^{file}: 'utf-8' codec can't decode"):
        load(file)
