"""Product quantization networks for image and video search, in Keras and TensorFlow."""

from pathlib import Path as _Path

# In a checkout `export/` and `training/` stand beside this folder; installed, they lie inside it.
if not (_Path(__file__).parent / "export" / "__init__.py").is_file():
    __path__.append(str(_Path(__file__).parent.parent))

from tfpqn import layers as layers
from tfpqn import losses as losses
from tfpqn import metrics as metrics
from tfpqn import models as models
from tfpqn import ops as ops

__version__ = "0.1.0"

__all__ = ["__version__", "layers", "losses", "metrics", "models", "ops"]
