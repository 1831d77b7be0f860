"""The speech step and the backbone, as graphs and where there can be none.

A graph on the CPU is one that runs again what was captured, or one that is broken in some way.
"""

import sys
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from server.gpu.fast import runner, speech
from server.gpu.fast.backbone import BackboneSteps
from server.gpu.fast.speech import KERNELS_CHECKED, PARTS_CHECKED, speech_step
from tests.server.gpu.with_torch.stand_in import Model, Sampler, module


class Stream:
    def wait_stream(self, other: object) -> None:
        pass


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU whose graphs do nothing when they are replayed."""
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    for name in ("stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, nullcontext)
    graph = SimpleNamespace(replay=lambda: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
    reserved = iter(range(0, 100, 5))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: next(reserved))


def stock_results(model: Any, states: torch.Tensor) -> bool:
    codes, embeddings = speech_step(model, 4, Sampler(do_sample=False))(states)
    wanted = model.speak(states)
    return torch.equal(codes, wanted[0]) and torch.equal(embeddings, wanted[1])


@pytest.mark.usefixtures("gpu")
def test_a_graph_with_other_results_is_not_used(caplog: pytest.LogCaptureFixture):
    assert stock_results(Model(), torch.randn((4, 4)))
    assert "the graph of the stock parts differs from stock in step 1 of 16" in caplog.text


def test_without_a_graph_the_stock_step_is_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fails() -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(torch.cuda, "Stream", fails)
    model = Model()
    assert stock_results(model, torch.randn((4, 4)))
    assert "speech step: no graph of the stock parts (RuntimeError('out of memory'))" in caplog.text
    assert "speech step: no graph of joined kernels (RuntimeError('a local tr" in caplog.text
    assert model.local_sampler == "sorts first"
    assert model.base_local_forward == "stock"
    assert (model.local_forward_cg_by_bs, model.input_local_transformer_cg_by_bs) == (
        {1: "graph"},
        {1: "graph"},
    )


@pytest.mark.usefixtures("gpu")
def test_stock_graphs_and_sorting_are_out_of_what_is_captured(monkeypatch: pytest.MonkeyPatch):
    captured: list[object] = []
    model: Any = Model()

    def graph(_: object) -> Any:
        captured.extend([model.local_sampler, model.local_forward_cg_by_bs])
        return nullcontext()

    monkeypatch.setattr(torch.cuda, "graph", graph)
    likeliest = Sampler(do_sample=False)
    speech_step(model, 4, likeliest)
    assert captured == [likeliest, {}]


class Steady(Model):
    """Says the same whatever its states, so that a graph which does nothing is right."""

    def _generate_speech_tokens_and_audio_embeddings(
        self, hidden_states: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.said = torch.ones(4, 1, 8, 4), torch.ones(4, 1, 4)
        return self.said


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("seats", "rows"), [(1, 2), (3, 4), (4, 4), (9, 9)])
def test_a_graph_has_as_many_rows_as_stock_s_own(seats: int, rows: int):
    captured: list[int] = []

    class Parted(Model):
        def _generate_speech_tokens_and_audio_embeddings(
            self, hidden_states: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            captured.append(hidden_states.shape[0])
            return torch.ones(captured[-1], 1, 8, 4), torch.ones(captured[-1], 1, 4)

    model: Any = Parted(seats)
    model.local_forward_cg_by_bs = dict.fromkeys((2, 4, 8), "graph")
    step = speech_step(model, seats, Sampler(do_sample=False))
    assert captured[0] == rows
    assert [each.shape[0] for each in step(torch.randn((seats, 4)))] == [seats, seats]


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("error", [AttributeError("q_proj"), OSError("no compiler")])
def test_what_goes_wrong_in_a_comparison_leaves_the_stock_step(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
):
    def fails(*_: object) -> None:
        raise error

    caplog.set_level("INFO")
    monkeypatch.setattr(speech.SpeechGraph, "__call__", fails)
    assert stock_results(Model(), torch.randn((4, 4)))
    assert f"no graph of the stock parts ({error!r})" in caplog.text
    assert caplog.messages[-1] == "speech step: the stock parts"


class Local:
    alive: "weakref.ref[Local]"

    def __init__(self, llm: object) -> None:
        Local.alive = weakref.ref(self)


STEPS = KERNELS_CHECKED // 4


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("wrong_in", [None, 1, PARTS_CHECKED + 1, STEPS])
def test_joined_kernels_are_used_where_they_are_right_in_every_state(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wrong_in: int | None
):
    """The graph of joined kernels is wrong in one of the steps that it is compared in, or none."""
    caplog.set_level("INFO")
    model: Any = Steady()

    class Graph:
        replays = 0
        local: object
        codes: torch.Tensor

        def replay(self) -> None:
            self.replays += 1
            is_wrong = isinstance(self.local, Local) and self.replays == wrong_in
            self.codes[0] = torch.ones(1, 8, 4) * (2.0 if is_wrong else 1.0)

    @contextmanager
    def capture(graph: Graph) -> Generator[None]:
        graph.local = model.base_local_forward
        yield
        graph.codes = model.said[0]

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(speech, "local_forward", Local)
    step = speech_step(model, 4, Sampler(do_sample=False))
    chosen = "joined kernels" if wrong_in is None else "the stock parts"
    assert caplog.messages[-1] == f"speech step: graph of {chosen}"
    differs = f"graph of joined kernels differs from stock in step {wrong_in} of {STEPS}"
    assert (differs in caplog.text) == (wrong_in is not None)
    assert model.base_local_forward == "stock"
    # Its weights are read by the graph, which does not keep them.
    assert (Local.alive() is not None) == (wrong_in is None)
    del step
    assert Local.alive() is None


def test_the_backbone_is_replayed_where_vllm_has_prepared_the_step():
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x * 2.0

    def replay(_: torch.Tensor) -> torch.Tensor:
        return written

    written = torch.ones(2)
    replayed = False
    steps = BackboneSteps(forward, replay, lambda: replayed)
    assert steps(torch.ones(2)).tolist() == [2.0, 2.0]
    replayed = True
    result = steps(torch.ones(2))
    written[0] = torch.zeros(1)[0]
    assert result.tolist() == [1.0, 1.0]


class Wrapper:
    """Stands in for vLLM's `CUDAGraphWrapper`."""

    def __init__(self, runnable: Any, vllm_config: object, runtime_mode: str) -> None:
        self.runnable, self.mode = runnable, runtime_mode

    def __call__(self, *args: object) -> object:
        return self.runnable(*args)

    def unwrap(self) -> object:
        return self.runnable


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], Any]:
    """Has a patched runner load a model, and returns the runner."""
    context = SimpleNamespace(cudagraph_runtime_mode="full")
    mode = SimpleNamespace(FULL="full")
    vllm = {
        "vllm": module(),
        "vllm.compilation": module(),
        "vllm.compilation.cuda_graph": module(CUDAGraphWrapper=Wrapper),
        "vllm.config": module(CUDAGraphMode=mode),
        "vllm.forward_context": module(get_forward_context=lambda: context),
    }
    for name, stand_in in vllm.items():
        monkeypatch.setitem(sys.modules, name, stand_in)
    monkeypatch.setattr(sys.modules[Model.__module__], "MiMoSampler", Sampler, raising=False)

    def load(model: object) -> Any:
        class Runner:
            scheduler_config = SimpleNamespace(max_num_seqs=4)
            attention_config = SimpleNamespace(flash_attn_max_num_splits_for_cuda_graph=32)
            vllm_config = SimpleNamespace(attention_config=attention_config)
            model_memory_usage = 7

            def load_model(self) -> None:
                self.model = model

        runner.patch(module(OmniGPUModelRunner=Runner))
        loaded = Runner()
        loaded.load_model()
        return loaded

    return load


class Backbone:
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 3.0


def whole(llm: Any) -> SimpleNamespace:
    if llm is not None:
        llm.model = Backbone()
    return SimpleNamespace(fused_thinker_talker=llm)


@pytest.mark.usefixtures("gpu")
def test_vllm_wraps_the_backbone_alone_and_attention_is_not_split(load: Callable[[object], Any]):
    model = whole(Model())
    loaded = load(Wrapper(model, None, "full"))
    assert loaded.model is model
    llm: Any = model.fused_thinker_talker
    assert isinstance(llm.model.forward, BackboneSteps)
    assert llm.model.forward(torch.ones(1)).tolist() == [3.0]
    assert loaded.attention_config.flash_attn_max_num_splits_for_cuda_graph == 1
    assert llm.seats == 4
    assert loaded.model_memory_usage == 7 + 5


@pytest.mark.usefixtures("gpu")
def test_without_graphs_in_the_deploy_file_the_backbone_stays(load: Callable[[object], Any]):
    model = whole(Model())
    loaded = load(model)
    assert not isinstance(model.fused_thinker_talker.model.forward, BackboneSteps)
    assert loaded.attention_config.flash_attn_max_num_splits_for_cuda_graph == 32


def test_the_codec_s_stage_is_left_alone(load: Callable[[object], Any]):
    model = whole(None)
    assert load(model).model is model
