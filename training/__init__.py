"""Training and evaluation, on the Keras backend in use."""

from tfpqn.codebooks.initialization import initialize_codebooks as initialize_codebooks
from tfpqn.codebooks.initialization import settle_codebooks as settle_codebooks

from .calibration import calibrate as calibrate
from .compatibility import compare_networks as compare_networks
from .evaluation import encode_set as encode_set
from .evaluation import evaluate as evaluate
from .loops.callbacks import EvaluateRetrieval as EvaluateRetrieval
from .loops.callbacks import ReviveCodewords as ReviveCodewords
from .loops.fit import fit as fit
from .runs.run import Run as Run
from .runs.run import calibrate_run as calibrate_run
from .runs.run import evaluate_run as evaluate_run
from .runs.training import train as train
from .settings.run_config import RunConfig as RunConfig

__all__ = [
    "EvaluateRetrieval",
    "ReviveCodewords",
    "Run",
    "RunConfig",
    "calibrate",
    "calibrate_run",
    "compare_networks",
    "encode_set",
    "evaluate",
    "evaluate_run",
    "fit",
    "initialize_codebooks",
    "settle_codebooks",
    "train",
]
