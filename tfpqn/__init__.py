"""Product quantization networks for image and video search, in Keras and TensorFlow.

The rooms are imported when they are first named: `import tfpqn` itself needs neither Keras nor
TensorFlow, and prints nothing.
"""

from __future__ import annotations

import importlib as _importlib
from pathlib import Path as _Path
from types import ModuleType as _ModuleType
from typing import TYPE_CHECKING as _TYPE_CHECKING

# In a checkout `export/` and `training/` stand beside this folder; installed, they lie inside it.
if not (_Path(__file__).parent / "export" / "__init__.py").is_file():
    __path__.append(str(_Path(__file__).parent.parent))

from tfpqn import _command_line
from tfpqn._registration import register_with_keras as _register_with_keras

_command_line.quieten_tensorflow()

if _TYPE_CHECKING:
    from tfpqn import datasets as datasets
    from tfpqn import index as index
    from tfpqn import layers as layers
    from tfpqn import losses as losses
    from tfpqn import metrics as metrics
    from tfpqn import models as models
    from tfpqn import ops as ops
    from tfpqn import retrieval as retrieval

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "datasets",
    "export",
    "index",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "retrieval",
    "training",
]


def __getattr__(name: str) -> _ModuleType:
    if name in __all__:
        return _importlib.import_module(f"tfpqn.{name}")
    raise AttributeError(f"module 'tfpqn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_register_with_keras()
