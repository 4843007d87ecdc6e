"""Training and evaluation, on the Keras backend in use."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfpqn.codebooks.fitting import fit_vectors as fit_vectors
    from tfpqn.codebooks.initialization import initialize_codebooks as initialize_codebooks
    from tfpqn.codebooks.initialization import settle_codebooks as settle_codebooks

    from .calibration import calibrate as calibrate
    from .compatibility import compare_networks as compare_networks
    from .encoding import encode_set as encode_set
    from .evaluation import evaluate as evaluate
    from .loops.callbacks import EvaluateRetrieval as EvaluateRetrieval
    from .loops.callbacks import ReviveCodewords as ReviveCodewords
    from .loops.fit import fit as fit
    from .reports.report import report_run as report_run
    from .reports.tensorboard import LogToTensorBoard as LogToTensorBoard
    from .runs.measure import calibrate_run as calibrate_run
    from .runs.measure import evaluate_run as evaluate_run
    from .runs.run import Run as Run
    from .runs.train import train as train
    from .settings.run_config import RunConfig as RunConfig

# Name -> its module, imported when the name is first asked for: settings alone need no Keras.
_MODULES = {
    "EvaluateRetrieval": ".loops.callbacks",
    "LogToTensorBoard": ".reports.tensorboard",
    "ReviveCodewords": ".loops.callbacks",
    "Run": ".runs.run",
    "RunConfig": ".settings.run_config",
    "calibrate": ".calibration",
    "calibrate_run": ".runs.measure",
    "compare_networks": ".compatibility",
    "encode_set": ".encoding",
    "evaluate": ".evaluation",
    "evaluate_run": ".runs.measure",
    "fit": ".loops.fit",
    "fit_vectors": "tfpqn.codebooks.fitting",
    "initialize_codebooks": "tfpqn.codebooks.initialization",
    "report_run": ".reports.report",
    "settle_codebooks": "tfpqn.codebooks.initialization",
    "train": ".runs.train",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name], __name__), name)
