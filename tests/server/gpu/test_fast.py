"""The plug-in for the model server: where it fits, and what it says where it does not.

vLLM-Omni is a folder of small modules with its names; what needs torch is in `with_torch/`.
"""

import asyncio
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from server.gpu.fast import correct_dropout, imports, lacks, models, speed_up
from server.gpu.fast.imports import when_imported
from server.gpu.fast.needs import VERSIONS, Needs, Site
from server.gpu.fast.sizes import read_sizes
from tests.server.gpu.environment import install, lay_out

ON_PATH = Path(__file__).parents[3] / "server" / "gpu" / "fast" / "on_path"
FILE = "vllm_omni/model_executor/models/mimo_audio/mimo_audio_llm.py"
LLM = FILE.removesuffix(".py").replace("/", ".")
TRANSFORMER = """
class Module:
    def __init__(self, config):
        self.training = True
    def eval(self):
        self.training = False

class MiMoAudioQwen2Model(Module):
    def __init__(self, config: object):
        super().__init__(config)

class Llm:
    def __init__(self):
        self.local_transformer = MiMoAudioQwen2Model("config")
        self.captured_in_training = self.local_transformer.training
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An environment with vLLM-Omni in it, in which no plug-in waits for an import."""
    monkeypatch.setattr(imports, "_waiting", {})
    monkeypatch.setattr(sys, "path", [str(lay_out(tmp_path, {FILE: TRANSFORMER})), *sys.path])
    yield tmp_path
    for name in [each for each in sys.modules if each.startswith("vllm_omni")]:
        del sys.modules[name]


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "vllm.mimo_live"]


def test_dropout_is_off_before_a_graph_can_be_captured(installed: Path):
    correct_dropout()
    from vllm_omni.model_executor.models.mimo_audio import (  # pyright: ignore  # noqa: PLC0415
        mimo_audio_llm,  # pyright: ignore
    )

    assert not mimo_audio_llm.Llm().captured_in_training  # pyright: ignore


def test_what_has_another_shape_is_left_alone_and_named(
    installed: Path, caplog: pytest.LogCaptureFixture
):
    lay_out(installed, {FILE: TRANSFORMER.replace("(self, config: object)", "(self, *, config)")})
    correct_dropout()
    [line] = said(caplog)
    assert line.endswith("missing: mimo_audio_llm.py: MiMoAudioQwen2Model.__init__(config)")


def test_without_vllm_omni_nothing_happens(caplog: pytest.LogCaptureFixture):
    correct_dropout()
    speed_up()
    dropout, speed = said(caplog)
    assert dropout.startswith("dropout in replies is not corrected; missing: ")
    assert speed.startswith("replies are not sped up, stock serving goes on; missing: ")
    assert "vllm is absent, not 0.24; vllm-omni is absent, not 0.24; " in speed


def test_what_has_all_the_names_fits(installed: Path, caplog: pytest.LogCaptureFixture):
    install(installed)
    assert lacks() == ""
    speed_up()
    assert said(caplog) == []


def test_one_name_that_is_missing_is_enough_to_change_nothing(
    installed: Path, caplog: pytest.LogCaptureFixture
):
    install(installed)
    file = installed / "vllm_omni" / "core" / "sched" / "omni_ar_scheduler.py"
    file.write_text(file.read_text().replace("schedule", "plan"))
    speed_up()
    [line] = said(caplog)
    assert line.endswith("missing: omni_ar_scheduler.py: OmniARScheduler.schedule")
    import vllm_omni.core.sched.omni_ar_scheduler as module  # pyright: ignore  # noqa: PLC0415

    assert not hasattr(module.OmniARScheduler, "schedule")  # pyright: ignore


def test_another_version_is_named_and_not_tried(installed: Path):
    install(installed, version="0.30.1")
    assert lacks() == "vllm 0.30.1, not 0.24; vllm-omni 0.30.1, not 0.24"


EXTRA = {"codec_chunk_frames": 3, "codec_left_context_frames": 40}


def test_the_first_chunk_has_two_groups_unless_the_deploy_file_says_otherwise():
    assert [read_sizes({"extra": EXTRA}).of_chunk(i) for i in range(3)] == [2, 3, 3]
    longer = {"extra": {**EXTRA, "codec_first_chunks": [1, 2]}}
    assert [read_sizes(longer).of_chunk(i) for i in range(3)] == [1, 2, 3]
    assert read_sizes(EXTRA | {"codec_first_chunks": []}).of_chunk(0) == 3


@pytest.mark.parametrize("value", ["2", 2, [0], [1, "2"], None])
def test_first_chunks_that_can_not_be_meant_are_named(
    value: object, caplog: pytest.LogCaptureFixture
):
    assert read_sizes(EXTRA | {"codec_first_chunks": value}).first == (2,)
    assert said(caplog) == [
        f"codec_first_chunks is {value!r}; it must be a list of numbers of groups"
    ]


@pytest.mark.parametrize("config", [None, {}, {"codec_chunk_frames": 2}])
def test_what_stock_refuses_is_what_stock_takes_instead(config: dict[str, int] | None):
    assert read_sizes(config)[1:] == (10, 40)


@pytest.mark.system
def test_vllm_finds_the_plug_in_and_nothing_else_of_ours(tmp_path: Path):
    lay_out(tmp_path, {FILE: TRANSFORMER})
    program = f"""
import sys
from importlib.metadata import entry_points
for plug_in in entry_points(group="vllm.general_plugins"):
    plug_in.load()()
import {LLM} as llm
print(llm.Llm().captured_in_training, sorted({{"agent", "client", "numpy"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONPATH": f"{ON_PATH}:{tmp_path}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("False []\n", 0), done.stderr


SOURCE = """
from elsewhere import Borrowed as Taken
LIMIT: int = 3
OTHER = 4
def function(a, b=1, *, c): ...
class Known:
    field: int = 0
    def __init__(self, one):
        self.kept: dict[str, int] = {}
        self.first, self.second = 1, 2
    def method(self, a, b): ...
"""


@pytest.mark.parametrize(
    "need",
    [
        *["Taken", "LIMIT", "OTHER", "function", "function(a)", "function(a, b)", "Known"],
        *["Known.field", "Known.kept", "Known.second", "Known.method(a, b)"],
        "Known.__init__(one)",
    ],
)
def test_what_is_there_is_found(tmp_path: Path, need: str):
    (tmp_path / "known.py").write_text(SOURCE)
    assert Site(tmp_path).missing({"known.py": (need,)}) == []


@pytest.mark.parametrize(
    "need",
    ["Borrowed", "function(b)", "function(a, b, c)", "Known.read", "kept", "Known.method(b)"],
)
def test_what_is_not_there_is_named(tmp_path: Path, need: str):
    (tmp_path / "known.py").write_text(SOURCE)
    assert Site(tmp_path).missing({"known.py": (need,)}) == [f"known.py: {need}"]


@pytest.mark.parametrize("text", [None, "def (", "\0"])
def test_a_file_that_can_not_be_read_has_nothing(tmp_path: Path, text: str | None):
    needs: Needs = {"folder/file.py": ("a", "b")}
    if text is not None:
        lay_out(tmp_path, {"folder/file.py": text})
    assert Site(tmp_path).missing(needs) == ["file.py: a", "file.py: b"]


def test_a_module_that_is_imported_already_is_patched_at_once():
    patched: list[str] = []
    when_imported("sys", lambda module: patched.append(module.__name__))
    assert patched == ["sys"]


def test_the_extra_installs_what_the_plug_in_was_measured_with():
    project = tomllib.loads((ON_PATH.parents[3] / "pyproject.toml").read_text())["project"]
    installs = project["optional-dependencies"]["gpu"]
    known = [f"{name}=={version}" for name, version in VERSIONS.items()]
    assert len([pin for pin in installs if pin.startswith(tuple(known))]) == len(known)


def test_the_list_of_models_says_how_many_replies_are_made_at_once():
    class Serving:
        engine_client = SimpleNamespace(
            vllm_config=SimpleNamespace(scheduler_config=SimpleNamespace(max_num_seqs=4))
        )

        async def show_available_models(self) -> SimpleNamespace:
            return SimpleNamespace(data=[SimpleNamespace(id="MiMo")])

    module: Any = ModuleType("serving")
    module.OpenAIServingModels = Serving
    models.patch(module)
    [model] = asyncio.run(Serving().show_available_models()).data
    assert (model.id, model.replies_at_once) == ("MiMo", 4)
