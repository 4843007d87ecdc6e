"""Figures of a run's network, written into its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfpqn._text import counted
from tfpqn.datasets import Splits, load_protocol
from tfpqn.protocols import NetworkLike

from ..calibration import calibrate
from ..evaluation import evaluate
from ..settings.settings_file import settings_to_json
from .run import Run


def evaluate_run(
    run: Run,
    network: NetworkLike,
    splits: Splits,
    protocol: str | None = None,
    *,
    folder: str | Path | None = None,
) -> dict[str, Any]:
    """Evaluate a run's network; write and return its metrics, with protocol and settings.

    Args:
        run: The run.
        network: Its network.
        splits: `query` and `database` are used.
        protocol: Name of the protocol that the splits are of, if that is not the run's.
        folder: The folder that they are of, if that is not the run's.
    """
    data = run.config.data
    source = _describe_source(run, splits, protocol, folder)
    is_protocol = "folder_changes" not in source
    description = f"own {data.items.source}, {counted(len(splits.query), 'queries')}"
    if is_protocol:
        description = load_protocol(source["protocol"]).description
    metrics = {
        **source,
        "description": description,
        **evaluate(network, splits),
        "config": settings_to_json(run.config),
    }
    run.write_metrics(metrics)
    return metrics


def calibrate_run(
    run: Run,
    network: NetworkLike,
    splits: Splits,
    protocol: str | None = None,
    *,
    folder: str | Path | None = None,
    precision: float = 0.95,
    top_k: int = 10,
    seed: int = 0,
) -> dict[str, Any]:
    """Calibrate a run's network; write and return the result, with the protocol.

    The arguments are those of `evaluate_run` and of `calibrate`.
    """
    calibration = {
        **_describe_source(run, splits, protocol, folder),
        **calibrate(network, splits, precision=precision, top_k=top_k, seed=seed),
    }
    run.write_calibration(calibration)
    return calibration


def _describe_source(
    run: Run, splits: Splits, protocol: str | None, folder: str | Path | None
) -> dict[str, Any]:
    """Under `protocol` the name of a protocol, or a folder and how it has changed."""
    name = None if folder else protocol or run.config.data.protocol
    if name:
        return {"protocol": name}
    changes = run.split_record.find_changes(splits)
    return {"protocol": str(folder or run.config.data.folder), "folder_changes": changes}
