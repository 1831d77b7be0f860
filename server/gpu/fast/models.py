"""The list of models says how many replies are generated at once, so that clients can check it."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, Protocol


class _Models(Protocol):
    data: Sequence[Any]
    """pydantic models that take further fields."""


class _Serving(Protocol):
    engine_client: Any
    """vLLM-Omni's `AsyncOmni`; its configuration is that of the language model's stage."""

    async def show_available_models(self) -> _Models: ...


def patch(module: ModuleType) -> None:
    """Add `replies_at_once` to each model of `GET /v1/models`."""
    serving: type[_Serving] = module.OpenAIServingModels
    stock = serving.show_available_models

    async def show_available_models(self: _Serving) -> _Models:
        models = await stock(self)
        for model in models.data:
            model.replies_at_once = self.engine_client.vllm_config.scheduler_config.max_num_seqs
        return models

    serving.show_available_models = show_available_models
