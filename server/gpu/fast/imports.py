"""Patch a module when it is imported, and not a moment sooner.

vLLM loads plug-ins before most of itself; importing its modules from a plug-in costs seconds in
processes that never need them, and starts CUDA too early in others.
"""

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

Patch = Callable[[ModuleType], None]

_waiting: dict[str, list[Patch]] = {}


def when_imported(name: str, patch: Patch) -> None:
    """Call `patch` with the module once it has been imported; at once if it has been already."""
    if name in sys.modules:
        patch(sys.modules[name])
        return
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    _waiting.setdefault(name, []).append(patch)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds nothing itself: it has the others find, and runs the patches after the module."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        # Taken out first, so that this finder passes when it is asked again from here.
        patches = _waiting.pop(fullname, None)
        if patches is None:
            return None
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            for patch in patches:
                patch(module)

        spec.loader.exec_module = exec_module
        return spec
