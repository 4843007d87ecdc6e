"""Packages that only an extra of tfpqn brings."""

from __future__ import annotations

import importlib
from types import ModuleType


def import_extra(module: str, extra: str, need: str) -> ModuleType:
    """A module that an extra brings.

    Args:
        module: Its name.
        extra: The extra, as `pip install 'tfpqn[extra]'` names it.
        need: The sentence that says what needs which package, without its full stop.

    Raises:
        ImportError: It cannot be imported; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{need}. Install it by `pip install 'tfpqn[{extra}]'`. Received: {error}"
        ) from error
