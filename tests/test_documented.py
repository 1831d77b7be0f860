"""Whatever the documents and help texts name exists: commands, options, keys, files, variables."""

import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import cast

import msgspec
import pytest

from agent.realtime.config import ServerVad
from client import cli, talk
from client.ask import ask
from client.evaluation import evaluation, replay
from server import command
from server.embedded import app as embedded
from server.gpu import launch
from server.settings import Settings, checked
from tests.drivers import virtual_call
from tests.drivers.processes import ROOT

FOLDERS = ("agent", "client", "server", "tests")
CODE = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
UNITS = sorted((ROOT / "configs" / "systemd").glob("*.service"))
TEXTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "configs").glob("*.toml")),
    *sorted((ROOT / "configs").glob("*.yaml")),
    *UNITS,
]
SETTINGS = cast(dict[str, dict[str, object]], msgspec.to_builtins(Settings()))
HELPS = ["", *cli.PROGRAMS, "model --gpu"]


def parse(words: list[str]) -> None:
    """Have the real parser of a command take its options; end as it does if it can't."""
    name, *rest = words
    parsers: dict[str, Callable[[list[str]], object]] = {
        "talk": talk._parse,  # pyright: ignore[reportPrivateUsage]
        "ask": ask._parse,  # pyright: ignore[reportPrivateUsage]
        "serve": command._parser().parse_args,  # pyright: ignore[reportPrivateUsage]
        "eval": evaluation._parse,  # pyright: ignore[reportPrivateUsage]
        "replay": replay._parse,  # pyright: ignore[reportPrivateUsage]
        "model": embedded._parser().parse_args,  # pyright: ignore[reportPrivateUsage]
    }
    assert name in parsers, f"there is no command {name}"
    if "--gpu" in rest:
        own = rest[: rest.index("--")] if "--" in rest else rest
        launch._parser().parse_args(own)  # pyright: ignore[reportPrivateUsage]
    else:
        parsers[name](rest)


def help_text(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    try:
        cli.main([*words.split(), "--help"])
    except SystemExit as ended:
        assert ended.code == 0  # noqa: PT017
    return capsys.readouterr().out


FENCED = re.compile(r"(?ms)^```[a-z]*\n(.*?)^```")


def commands(text: str) -> Iterator[str]:
    """Every command line of ours: in a block of a document, in a unit, in a help text, quoted."""
    text = re.sub(r"(?m)\\\n|\n# ", " ", text)
    lines = [line for block in FENCED.findall(text) for line in block.splitlines()]
    lines += re.findall(r"(?m)^(?:ExecStart=|  )(\S*mimo-live .*)", text)
    for line in lines:
        if begun := re.match(r"(?:\S*/)?mimo-live (.*)", line):
            # What follows two blanks, or #, explains it.
            yield re.split(r"\s{2,}|\s#", begun[1])[0]
    for quoted in re.findall(r"`([^`]+)`", FENCED.sub("", text)):
        for part in " ".join(quoted.split()).split(" & "):
            if begun := re.match(r"(?:\S*/)?mimo-live (.+)", part):
                yield begun[1]


def check_command(line: str) -> None:
    words = shlex.split(line)
    # Options of the command itself, and errors, which begin with who says them.
    if words[0].startswith("-") or words[0].endswith(":"):
        return
    if "--help" in words:
        assert words[0] in cli.PROGRAMS
        return
    # A command that is only named, as `mimo-live replay`, lacks what it needs.
    if len(words) > 1:
        parse([word for word in words if word != "…"])
    else:
        assert words[0] in cli.PROGRAMS, f"there is no command {words[0]}"
    for word in words:
        if word.startswith(("configs/", "tests/", "docs/")):
            assert (ROOT / word).exists(), f"{word} is not there"


@pytest.mark.parametrize("file", TEXTS, ids=lambda path: path.name)
def test_documented_commands_are_taken(file: Path):
    for line in commands(file.read_text(encoding="utf-8")):
        try:
            check_command(line)
        except SystemExit:
            pytest.fail(f"{file.name}: mimo-live {line}")


@pytest.mark.parametrize("words", HELPS)
def test_commands_in_help_texts_are_taken(words: str, capsys: pytest.CaptureFixture[str]):
    for line in commands(help_text(words, capsys)):
        check_command(line)


@pytest.mark.parametrize("words", HELPS)
def test_examples_in_help_texts_can_be_pasted_anywhere(
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"(?m)^  (\S*mimo-live .*)", help_text(words, capsys))
    for line in examples:
        command, *rest = shlex.split(line)
        assert shutil.which(command), line
        parse(rest) if "--help" not in rest else None
        for option, word in pairwise(["", *rest]):
            if re.search(r"\.[a-z]+$", word) and option not in WRITTEN:
                assert Path(word).is_file(), line
    # What was recorded on a machine has no name beforehand.
    assert examples or words == "replay"


WRITTEN = {"--json", "--save"}
"""Options that name what does not exist yet."""


def options(capsys: pytest.CaptureFixture[str]) -> set[str]:
    text = " ".join(help_text(words, capsys) for words in HELPS)
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text)) | {"--version"}


@pytest.mark.parametrize(
    "file", [path for path in TEXTS if path.suffix == ".md"], ids=lambda path: path.name
)
def test_documented_options_exist(file: Path, capsys: pytest.CaptureFixture[str]):
    text = re.sub(r"(?ms)^```.*?^```", "", file.read_text(encoding="utf-8"))
    named = set(re.findall(r"(?<=`)--[a-z][\w-]*", text))
    assert named - options(capsys) <= OF_OTHERS


OF_OTHERS = {
    "--deploy-config",
    "--exclude-tools-when-tool-choice-none",
    "--limit-mm-per-prompt",
    "--key",
}
"""Documented options of other programs."""


@pytest.mark.parametrize("file", TEXTS, ids=lambda path: path.name)
def test_setting_keys_that_are_named_exist(file: Path):
    check_keys(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("words", HELPS)
def test_setting_keys_in_help_texts_exist(words: str, capsys: pytest.CaptureFixture[str]):
    check_keys(help_text(words, capsys))


SECTIONS = "|".join(SETTINGS)


def check_keys(text: str) -> None:
    """Check `[model]`, "`urls` under `[model]`", and `model.urls`, with or without backticks."""
    for key, section in re.findall(r"`(\w+)`\s+(?:under|in|of)\s+`\[(\w+)\]`", text):
        assert key in SETTINGS.get(section, {}), f"`{key}` under `[{section}]`"
    for section, key in re.findall(rf"(?<![\w./-])({SECTIONS})\.([a-z_]+)\b", text):
        is_file = key in {"md", "py", "js", "toml", "create", "example", "wav", "gguf"}
        assert is_file or key in SETTINGS[section] or (section, key) in OF_THE_WIRE, (section, key)


OF_THE_WIRE = {
    *(("model", key) for key in ("id",)),
    *(("transcription", key) for key in ("language", "prompt", "delta", "completed")),
}
"""Names in events that look like keys of the configuration."""


def test_tables_in_documents_are_taken_as_configuration():
    found = 0
    for file in TEXTS:
        for block in re.findall(r"(?ms)^```toml\n(.*?)^```", file.read_text(encoding="utf-8")):
            checked(tomllib.loads(block), file.name)
            found += 1
    assert found


def test_environment_variables_that_are_named_are_read():
    read = set(re.findall(r"MIMO_\w+", " ".join(path.read_text() for path in CODE)))
    for file in TEXTS:
        named = set(re.findall(r"MIMO_[A-Z_]+", file.read_text(encoding="utf-8")))
        assert named <= read, file.name


def test_modules_and_targets_that_are_named_exist():
    targets = set(re.findall(r"(?m)^([a-z][\w-]*):", (ROOT / "Makefile").read_text()))
    for file in TEXTS:
        text = file.read_text(encoding="utf-8")
        for module in re.findall(r"python -m ((?:agent|client|server|tests)[\w.]*)", text):
            assert find_spec(module), f"{file.name}: {module}"
        for target in re.findall(r"(?m)(?:^|`)make ([a-z][\w-]*)", text):
            assert target in targets, f"{file.name}: make {target}"


def test_files_that_are_linked_or_named_exist():
    known = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    for file in [each for each in TEXTS if each.suffix == ".md"]:
        text = file.read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
            assert (file.parent / link).exists(), f"{file.name}: {link}"
        pattern = r"`((?:configs|docs|tests|scripts|client|server|agent)/[\w./-]+\.\w+)`"
        assert set(re.findall(pattern, text)) <= set(known), file.name


def test_the_script_of_a_call_that_contributors_are_shown_runs():
    [script] = re.findall(
        r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert "assert " in script
    exec(script, vars(virtual_call) | {"ServerVad": ServerVad})
