"""Whole sessions, event by event, as their scripts say; and what holds for every one of them.

Where else rules of the protocol are kept: values and paths of errors in `test_protocol`; sizes,
formats and bytes in `test_protocol_limits` and `test_codec`; the order of any session in
`test_protocol_rules`; turns, barge-in and cuts in `test_session`; keys, secrets, headers and
addresses in `test_auth`; pings and close codes in `test_app`.
"""

from pathlib import Path
from typing import Any

import pytest
from openai.types.realtime import RealtimeServerEvent
from pydantic import BaseModel, TypeAdapter

from tests.drivers import scripted
from tests.drivers.protocol_order import assert_in_order
from tests.drivers.scripted import Scripted

SCRIPTS = scripted.scripts()
DEFAULTS = [script for script in SCRIPTS if script.stem.startswith("default_")]
OFFICIAL: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
TOLERATED = {"response_cancel_not_active"}
"""Errors that every client passes over."""


def name(script: Path) -> str:
    return script.stem


def run(script: Path) -> Scripted:
    played = Scripted()
    for line in scripted.read(script):
        if scripted.HAPPENS & line.keys():
            played.play(line)
    return played


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_a_session_goes_as_its_script_says(script: Path):
    expected = scripted.read(script)
    found = list(scripted.replayed(expected))
    for number, (line, now) in enumerate(zip(expected, found, strict=False), 1):
        assert now == line, f"{script.name}, line {number}"
    assert len(found) == len(expected)


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_every_event_is_of_the_official_types(script: Path):
    for frame in run(script).frames:
        if b"\n" in frame:
            continue
        event = OFFICIAL.validate_json(frame, strict=True)
        if not event.type.startswith("session."):
            assert not list(unofficial(event)), event


def unofficial(value: object) -> list[str]:
    """Fields that the official types do not know."""
    match value:
        case BaseModel():
            inner = [unofficial(getattr(value, field)) for field in type(value).model_fields]
            return [*(value.model_extra or {}), *sum(inner, list[str]())]
        case list():
            return sum((unofficial(each) for each in value), list[str]())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        case _:
            return []


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_every_session_keeps_the_order_that_clients_rely_on(script: Path):
    assert_in_order(run(script).server)


@pytest.mark.parametrize("script", DEFAULTS, ids=name)
def test_what_frameworks_send_by_themselves_is_no_error(script: Path):
    errors = [event["error"] for event in run(script).server if event["type"] == "error"]
    assert [error for error in errors if error["code"] not in TOLERATED] == []
