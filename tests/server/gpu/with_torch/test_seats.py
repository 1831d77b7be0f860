"""Which requests share a step."""

from types import SimpleNamespace
from typing import Any

from server.gpu.fast import seats
from tests.server.gpu.with_torch.stand_in import module


class Queue(list[str]):
    def add_request(self, request: str) -> None:
        self.append(request)

    def remove_requests(self, requests: list[str]) -> None:
        for each in requests:
            self.remove(each)


class Stock:
    """Takes all that it sees, up to its seats, as vLLM does."""

    max_num_running_reqs = 4

    def __init__(self, running: list[str], waiting: list[str]) -> None:
        self.running, self.waiting = running, Queue(waiting)
        self.has_memory = True

    def schedule(self, throttle_prefills: bool = False) -> SimpleNamespace:
        while self.waiting and self.has_memory and len(self.running) < self.max_num_running_reqs:
            self.running.append(self.waiting.pop(0))
        planned = list(self.running)
        return SimpleNamespace(planned=planned, total_num_scheduled_tokens=len(planned))


def scheduler(running: list[str], waiting: list[str]) -> Any:
    class Patched(Stock):
        pass

    seats.patch(module(OmniARScheduler=Patched))
    return Patched(running, waiting)


def plans(of: Any, steps: int) -> list[list[str]]:
    return [of.schedule(throttle_prefills=False).planned for _ in range(steps)]


def test_a_new_prompt_is_read_alone_beside_replies():
    one = scheduler(["a", "b"], ["c"])
    assert plans(one, 2) == [["c"], ["a", "b", "c"]]


def test_several_prompts_are_read_one_after_the_other_in_order():
    one = scheduler([], ["a", "b", "c"])
    assert plans(one, 4) == [["a"], ["b"], ["c"], ["a", "b", "c"]]


def test_who_finds_no_seat_waits():
    one = scheduler(["a", "b", "c", "d"], ["e", "f"])
    assert plans(one, 1) == [["a", "b", "c", "d"]]
    assert one.waiting == ["e", "f"]
    one.running.remove("b")
    assert plans(one, 2) == [["e"], ["a", "c", "d", "e"]]


def test_a_prompt_without_memory_lets_the_others_go_on():
    one = scheduler(["a"], ["b", "c"])
    one.has_memory = False
    assert plans(one, 4) == [[], ["a"], [], ["a"]]
    one.has_memory = True
    assert plans(one, 3) == [["b"], ["c"], ["a", "b", "c"]]
