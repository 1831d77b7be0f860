"""A language model with the shape of MiMo-Audio's and four numbers where that has 4096."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

SPEECH = 9
"""The text token that says: this step is speech."""
WIDTH = 4
VOCABULARY = 10
STATES = torch.randn((WIDTH, WIDTH))


class Sampler:
    def __init__(self, do_sample: bool) -> None:
        self.do_sample = do_sample


class Sized:
    hidden_size = WIDTH
    intermediate_size = WIDTH


class Weighted:
    weight = STATES


class Model:
    """Its tokens are scripted; its sound depends on all that it was given in this step."""

    def __init__(self, seats: int = 4) -> None:
        self.config, self.hidden_states_downcast = Sized(), Weighted()
        self.empty_token_id = SPEECH
        self.local_config, self.speech_embeddings_to_local = Sized(), None
        self.group_size, self.delay_pattern = 2, [0, 1]
        self.base_local_forward: object = "stock"
        self.local_sampler: object = "sorts first"
        self.local_forward_cg_by_bs: dict[int, object] = {1: "graph"}
        self.input_local_transformer_cg_by_bs: dict[int, object] = {1: "graph"}
        self._cached_new_audio_emb_by_req: dict[str, Tensor] = {}
        self.seats = seats
        self.speech = self.speak
        self.tokens: list[int] = []
        self.seen: list[Tensor] = []
        self.asked_of_stock = 0

    def model(
        self, input_ids: Tensor, positions: Tensor, between: object, *, inputs_embeds: Tensor
    ) -> Tensor:
        self.seen.append(inputs_embeds.clone())
        return inputs_embeds * 2.0

    def compute_logits(self, hidden_states: Tensor) -> Tensor:
        logits = torch.zeros(len(hidden_states), VOCABULARY)
        for row, token in enumerate(self.tokens):
            logits[row, token] = torch.ones(1)[0]
        return logits

    def speak(self, states: Tensor) -> tuple[Tensor, Tensor]:
        return self._generate_speech_tokens_and_audio_embeddings(states[:, None, :])

    def _generate_speech_tokens_and_audio_embeddings(
        self, hidden_states: Tensor
    ) -> tuple[Tensor, Tensor]:
        assert hidden_states.shape[0] == self.seats
        frames = torch.arange(1, 33).reshape(1, 1, 8, 4)
        return frames * hidden_states[:, :, :1, None], hidden_states + 1.0

    def forward(self, *args: object, **kwargs: object) -> str:
        self.asked_of_stock += 1
        return "stock"


def module(**names: object) -> ModuleType:
    """A module with these names in it."""
    made = ModuleType("stand_in")
    for name, value in names.items():
        setattr(made, name, value)
    return made


def model_class() -> type[Any]:
    """A class of its own to patch."""

    class Patched(Model):
        pass

    return Patched
