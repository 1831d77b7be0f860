"""Forget what a reply said last when it is over; the stock model keeps it for ever."""

from collections.abc import Iterable
from types import ModuleType
from typing import Protocol

from server.gpu.fast.shapes import Llm


class _Model(Protocol):
    fused_thinker_talker: Llm | None


def patch(module: ModuleType) -> None:
    """Give the model what vLLM's runner calls when requests are over or aborted."""

    def on_requests_finished(self: _Model, names: Iterable[str]) -> None:
        if self.fused_thinker_talker is None:
            return
        heard = self.fused_thinker_talker._cached_new_audio_emb_by_req  # pyright: ignore[reportPrivateUsage]
        for name in names:
            heard.pop(name, None)

    module.MiMoAudioForConditionalGeneration.on_requests_finished = on_requests_finished
