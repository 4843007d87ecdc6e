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
    """Waits for the first import that brings Keras: its own, or one of a room of ours."""

    def __init__(self) -> None:
        # Not while such an import runs: the classes come when all of it is done.
        self.is_waiting = True

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not self.is_waiting or (name != "keras" and not name.startswith("tfpqn.")):
            return None
        self.is_waiting = False
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.is_waiting = True
        if spec is not None and spec.loader is not None:
            self._register_after(spec.loader)
        return spec

    def _register_after(self, loader: Any) -> None:
        execute = loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            self.is_waiting = has_keras = False
            try:
                execute(module)
                has_keras = "keras" in sys.modules
            finally:
                self.is_waiting = not has_keras
            if has_keras:
                _import_classes()

        loader.exec_module = execute_and_register


def _import_classes() -> None:
    for room in ("losses", "metrics", "models", "retrieval"):
        importlib.import_module(f"tfpqn.{room}")
