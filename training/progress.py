"""The progress bar of a training."""

from __future__ import annotations

import math

import rich.console
import rich.progress


def progress_bar(progress: bool) -> rich.progress.Progress:
    """A bar on stderr, which is shown if `progress`."""
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
        console=rich.console.Console(stderr=True),
        disable=not progress,
    )


def require_finite(loss: float, title: str) -> None:
    """Refuse a loss that is no number, before it is checkpointed.

    Raises:
        ValueError: The loss is NaN or infinite.
    """
    if not math.isfinite(loss):
        raise ValueError(
            f"The loss must stay finite. Received: {loss} in {title}. Lower the learning rate "
            "and start from the last checkpoint, if there is one"
        )
