"""What a training shows on stderr: a bar on a terminal, and elsewhere one line an epoch."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import rich.console
import rich.progress

# Of an epoch's logs, what a line shows.
SHOWN = ("loss", "mAP", "codewords_revived", "learning_rate")


def progress_bar(progress: bool) -> rich.progress.Progress:
    """A bar on stderr, which is shown if `progress`, and if stderr is a terminal or a notebook."""
    console = rich.console.Console(stderr=True, quiet=not progress)
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
        console=console,
        # In a file or pipe it would be seen when all is over.
        disable=not (progress and (console.is_terminal or console.is_jupyter)),
    )


@contextlib.contextmanager
def shown_steps(progress: bool = True) -> Iterator[Callable[[str, int, int], None]]:
    """What is told the name of a step, and how much of how much is done: each has a bar of its own.

    Nothing is shown before the first: an error should be one line.
    """
    bar = rich.progress.Progress(console=rich.console.Console(stderr=True, quiet=not progress))
    tasks: dict[str, rich.progress.TaskID] = {}

    def show(step: str, done: int, total: int) -> None:
        bar.start()
        if step not in tasks:
            tasks[step] = bar.add_task(step, total=total)
        bar.update(tasks[step], completed=done)

    try:
        yield show
    finally:
        if tasks:
            bar.stop()


def report_epoch(bar: rich.progress.Progress, summary: dict[str, float], epochs: int) -> None:
    """Print an epoch's figures as a line at once, where there is no bar."""
    if not bar.disable:
        return
    figures = [f"{name} {summary[name]:.4g}" for name in SHOWN if name in summary]
    seconds = f"{summary['seconds']:.1f} s"
    line = "  ".join([f"epoch {summary['epoch']}/{epochs}", *figures, seconds])
    bar.console.print(line, soft_wrap=True, highlight=False)


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
