"""What the plug-in needs of vLLM and vLLM-Omni, looked up in their source text.

Nothing is imported for it: that would take seconds in every process, and the launcher asks the
same before it chooses a deploy file. What is needed is written as

    NAME                    a function, class, constant or import of the module
    NAME(a, b)              a function with these first parameters
    Class.name              a method, a field, or an attribute that some method sets
    Class.name(a, b)        a method with these first parameters, `self` not counted
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

Needs = Mapping[str, tuple[str, ...]]
"""What is needed of each file, by its path below the folder of packages."""

_MIMO = "vllm_omni/model_executor/models/mimo_audio"

DROPOUT: Needs = {f"{_MIMO}/mimo_audio_llm.py": ("MiMoAudioQwen2Model.__init__(config)",)}
"""All that the correction of dropout needs, in any version."""


class Site:
    """The folder of packages that vLLM-Omni is installed in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def missing(self, needs: Needs) -> list[str]:
        """Return what is not there, by name, e.g. `mimo_audio_llm.py: MiMoSampler.do_sample`."""
        return [
            f"{Path(file).name}: {need}"
            for file, wanted in needs.items()
            for found in [_names(self._folder / file)]
            for need in wanted
            if not _has(found, need)
        ]


def _has(found: Mapping[str, list[str]], need: str) -> bool:
    name, _, rest = need.partition("(")
    parameters = [each.strip() for each in rest.removesuffix(")").split(",") if each]
    return name in found and found[name][: len(parameters)] == parameters


def _names(file: Path) -> dict[str, list[str]]:
    """Return the names in a source file, each with its parameters; none if it can't be read."""
    try:
        tree = ast.parse(file.read_text())
    except (OSError, SyntaxError, ValueError):
        return {}
    return dict(_of_module(tree))


def _of_module(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    for node in tree.body:
        match node:
            case ast.ClassDef():
                yield node.name, []
                for name, parameters in _of_class(node):
                    yield f"{node.name}.{name}", parameters
            case ast.Import() | ast.ImportFrom():
                for each in node.names:
                    yield each.asname or each.name, []
            case _:
                yield from _defined(node)


def _of_class(tree: ast.ClassDef) -> Iterator[tuple[str, list[str]]]:
    for node in tree.body:
        for name, parameters in _defined(node):
            yield name, parameters[1:] if parameters[:1] == ["self"] else parameters
        for each in ast.walk(node):
            match each:
                case ast.Attribute(ast.Name("self"), name, ast.Store()):
                    yield name, []
                case _:
                    pass


def _defined(node: ast.stmt) -> Iterator[tuple[str, list[str]]]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield node.name, [each.arg for each in (*node.args.posonlyargs, *node.args.args)]
        case ast.Assign(targets):
            yield from ((each.id, []) for each in targets if isinstance(each, ast.Name))
        case ast.AnnAssign(ast.Name(name)):
            yield name, []
        case _:
            pass
