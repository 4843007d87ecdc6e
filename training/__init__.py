"""Training, evaluation and reports, on the Keras backend in use."""

from .calibration import calibrate as calibrate
from .callbacks import EvaluateRetrieval as EvaluateRetrieval
from .callbacks import ReviveCodewords as ReviveCodewords
from .compatibility import compare_networks as compare_networks
from .evaluation import encode_set as encode_set
from .evaluation import evaluate as evaluate
from .fitting import fit as fit
from .initialization import initialize_codebooks as initialize_codebooks
from .initialization import settle_codebooks as settle_codebooks
from .reproduction import reproduce as reproduce
from .run_config import RunConfig as RunConfig
from .run_training import train as train
from .runs import Run as Run
from .runs import calibrate_run as calibrate_run
from .runs import evaluate_run as evaluate_run

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
    "reproduce",
    "settle_codebooks",
    "train",
]
