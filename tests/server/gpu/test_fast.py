"""The plug-in for the model server: where it fits, and what it says where it does not.

vLLM-Omni is a folder of small modules with its names; what needs torch is in `with_torch/`.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.gpu.fast import register
from server.gpu.fast.imports import when_imported
from server.gpu.fast.needs import Needs, Site

ON_PATH = Path(__file__).parents[3] / "server" / "gpu" / "fast" / "on_path"
LLM = "vllm_omni.model_executor.models.mimo_audio.mimo_audio_llm"
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


def lay_out(site: Path, modules: dict[str, str]) -> Path:
    for name, text in modules.items():
        file = site.joinpath(*name.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        for folder in file.relative_to(site).parents:
            if folder.name:
                (site / folder / "__init__.py").touch()
    return site


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An environment with vLLM-Omni in it."""
    monkeypatch.setattr(sys, "path", [str(lay_out(tmp_path, {LLM: TRANSFORMER})), *sys.path])
    yield tmp_path
    for name in [each for each in sys.modules if each.startswith("vllm_omni")]:
        del sys.modules[name]


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "vllm.mimo_live"]


def test_dropout_is_off_before_a_graph_can_be_captured(installed: Path):
    register()
    from vllm_omni.model_executor.models.mimo_audio import (  # pyright: ignore  # noqa: PLC0415
        mimo_audio_llm,  # pyright: ignore
    )

    assert not mimo_audio_llm.Llm().captured_in_training  # pyright: ignore


def test_what_has_another_shape_is_left_alone_and_named(
    installed: Path, caplog: pytest.LogCaptureFixture
):
    lay_out(installed, {LLM: TRANSFORMER.replace("(self, config: object)", "(self, *, config)")})
    register()
    [line] = said(caplog)
    assert "mimo_audio_llm.py: MiMoAudioQwen2Model.__init__(config) is missing" in line


def test_without_vllm_omni_nothing_happens(caplog: pytest.LogCaptureFixture):
    register()
    assert said(caplog) == ["vLLM-Omni is not installed; nothing to speed up"]


@pytest.mark.system
def test_vllm_finds_the_plug_in_and_nothing_else_of_ours(tmp_path: Path):
    lay_out(tmp_path, {LLM: TRANSFORMER})
    program = f"""
import sys
from importlib.metadata import entry_points
[plug_in] = entry_points(group="vllm.general_plugins")
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
    assert (done.stdout, done.stderr) == ("False []\n", "")


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
        lay_out(tmp_path, {"folder.file": text})
    assert Site(tmp_path).missing(needs) == ["file.py: a", "file.py: b"]


def test_a_module_that_is_imported_already_is_patched_at_once():
    patched: list[str] = []
    when_imported("sys", lambda module: patched.append(module.__name__))
    assert patched == ["sys"]
