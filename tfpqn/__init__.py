"""Product quantization networks for image and video search, in Keras and TensorFlow."""

import importlib as _importlib
from pathlib import Path as _Path
from types import ModuleType as _ModuleType

# In a checkout `export/` and `training/` stand beside this folder; installed, they lie inside it.
if not (_Path(__file__).parent / "export" / "__init__.py").is_file():
    __path__.append(str(_Path(__file__).parent.parent))

from tfpqn import _command_line

if _command_line.is_command_line():
    _command_line.import_keras_quietly()
else:
    _command_line.quieten_tensorflow()

from tfpqn import layers as layers
from tfpqn import losses as losses
from tfpqn import metrics as metrics
from tfpqn import models as models
from tfpqn import ops as ops

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
    "training",
]


def __getattr__(name: str) -> _ModuleType:
    """Import the rooms that need more than Keras when they are first named."""
    if name in ("datasets", "export", "index", "training"):
        return _importlib.import_module(f"tfpqn.{name}")
    raise AttributeError(f"module 'tfpqn' has no attribute {name!r}")
