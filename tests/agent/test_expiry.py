"""The end of a session's longest time: said once, whatever goes on, and nothing runs on."""

import pytest

from tests.drivers.scripted import Json, Scripted, sound
from tests.drivers.virtual_call import FRAME_S

HOUR_S = 3_600.0


def interruptible_by_nobody() -> Json:
    detection = {"type": "server_vad", "interrupt_response": False}
    audio: Json = {"input": {"turn_detection": detection}}
    return {"type": "session.update", "session": {"type": "realtime", "audio": audio}}


@pytest.mark.parametrize(
    ("frames", "requests"),
    [
        ([], 0),
        ([(0.9, 20)], 0),
        ([(0.9, 20), (0.0, 8)], 1),
        ([(0.9, 20), (0.0, 20)], 1),
        ([(0.9, 20), (0.0, 20), (0.9, 20), (0.0, 20)], 2),
    ],
    ids=["nothing", "speech", "a reply in advance", "a reply", "a turn that waits"],
)
def test_a_session_expires_once_and_leaves_no_request_open(
    frames: list[tuple[float, int]], requests: int
):
    scripted = Scripted()
    scripted.send(interruptible_by_nobody())
    scripted.wait(HOUR_S - 0.01 - FRAME_S * sum(count for _, count in frames))
    for probability, count in frames:
        scripted.user([probability] * count)
        if scripted.asks and "response.created" in scripted.types():
            scripted.model(sound(60_000))
    scripted.wait(HOUR_S)
    assert scripted.types().count("error") == 1
    assert [line for line in scripted.log if "close" in line] == [scripted.log[-1]]
    asked = [line["ask"]["response_id"] for line in scripted.log if "ask" in line]
    assert [line["abort"] for line in scripted.log if "abort" in line] == asked
    assert len(asked) == requests
    assert scripted.types().count("response.created") == scripted.types().count("response.done")
    assert scripted.session.deadline is None
