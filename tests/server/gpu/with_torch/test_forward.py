"""A step of the language model, with one reply and with several."""

from typing import Any

import pytest
import torch
from torch import Tensor

from server.gpu.fast import finished, forward
from tests.server.gpu.with_torch.stand_in import SPEECH, WIDTH, model_class, module

Request = tuple[str, int, int]
"""Name, first token and number of tokens of a request in a step."""


@pytest.fixture
def model() -> Any:
    patched = model_class()
    forward.patch(module(MiMoAudioLLMForConditionalGeneration=patched))
    return patched()


def step(model: Any, requests: list[Request], says: list[int], padding: int = 0) -> Any:
    """Have each request say a token, and return each one's codes and the states."""
    ids, spans = list[int](), list[tuple[int, int]]()
    for _, first, tokens in requests:
        spans.append((len(ids), len(ids) + tokens))
        ids += [first] * tokens
    ids += [0] * padding
    embeds = torch.cat([torch.full((1, WIDTH), float(token)) for token in ids])
    model.tokens = says
    return model.forward(
        torch.tensor(ids),
        torch.arange(len(ids)),
        None,
        embeds,
        request_token_spans=spans,
        runtime_additional_information=[{"req_id": name} for name, *_ in requests],
    )


def test_a_step_of_text_has_no_codes(model: Any):
    codes, states = step(model, [("a", 5, 1)], [3])
    assert codes is None
    assert torch.equal(states, torch.full((1, WIDTH), 10.0))


def test_each_request_gets_its_own_codes_and_text_none(model: Any):
    codes, _ = step(model, [("a", 1, 1), ("b", 2, 1), ("c", 3, 1)], [SPEECH, 4, SPEECH], padding=1)
    assert [each.numel() for each in codes] == [32, 0, 32]
    assert [each.reshape(-1)[0].tolist() for each in (codes[0], codes[2])] == [2.0, 6.0]


def test_what_was_said_is_heard_in_the_next_step_by_the_one_who_said_it(model: Any):
    step(model, [("a", 1, 1), ("b", 2, 1)], [SPEECH, SPEECH], padding=2)
    step(model, [("b", SPEECH, 1), ("a", 7, 1)], [3, 3], padding=2)
    seen: Tensor = model.seen[-1]
    assert seen[:, 0].tolist() == [5.0, 7.0, 0.0, 0.0]


def test_a_prompt_is_answered_from_its_last_token(model: Any):
    step(model, [("a", 1, 6)], [SPEECH])
    step(model, [("b", 1, 2), ("a", SPEECH, 1)], [3, SPEECH])
    assert model.seen[-1][:, 0].tolist() == [1.0, 1.0, 3.0]


def sound(model: Any, name: str, others: list[str], steps: int = 5) -> list[Tensor]:
    """The codes of a reply beside others that start as it does and say something else."""
    heard: list[Tensor] = []
    for i in range(steps):
        first = SPEECH if i else 2
        requests = [(name, first, 1), *((other, i, 1) for other in others)]
        codes, _ = step(model, requests, [SPEECH] * len(requests), 4 - len(requests))
        heard.append(codes[0])
    return heard


def test_a_reply_is_the_same_beside_others(model: Any):
    alone = sound(model, "alone", [])
    beside = sound(model, "beside", ["x", "y", "z"])
    assert all(map(torch.equal, alone, beside))
    assert not torch.equal(alone[0], alone[1])


def test_steps_without_requests_are_stock(model: Any):
    assert model.forward(torch.tensor([1]), torch.tensor([0])) == "stock"
    assert model.asked_of_stock == 1


def test_what_a_reply_said_is_forgotten_when_it_is_over(model: Any):
    class Whole:
        fused_thinker_talker = model
        on_requests_finished: Any

    finished.patch(module(MiMoAudioForConditionalGeneration=Whole))
    step(model, [("a", 1, 1), ("b", 2, 1)], [SPEECH, SPEECH], padding=2)
    Whole().on_requests_finished({"a", "never seen"})
    assert list(model._cached_new_audio_emb_by_req) == ["b"]
