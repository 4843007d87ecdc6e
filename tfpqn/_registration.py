"""Keras finds the classes of a saved network once they are imported: so they are, with Keras."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def register_with_keras() -> None:
    """Import what has such classes as soon as a program has imported Keras, or now if it has."""
    if "keras" in sys.modules:
        _import_classes()
    else:
        sys.meta_path.insert(0, _AfterKeras())


class _AfterKeras(MetaPathFinder):
    """Waits for the first import of Keras, and goes."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None or _is_importing():
            # A room of ours asked for it, and has yet to be imported itself.
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            _import_classes()

        loader: Any = spec.loader
        loader.exec_module = execute_and_register
        return spec


def _import_classes() -> None:
    importlib.import_module("tfpqn.models")
    importlib.import_module("tfpqn.retrieval")


def _is_importing() -> bool:
    specs = (module.__spec__ for name, module in sys.modules.items() if name.startswith("tfpqn."))
    return any(getattr(spec, "_initializing", False) for spec in specs)
