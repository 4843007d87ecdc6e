"""Whether settings go on with a run that has begun: as they are, or with more epochs."""

from __future__ import annotations

from collections.abc import Callable

from ..settings.run_config import RunConfig


def differing(config: RunConfig, former: RunConfig) -> list[str]:
    """Names of settings that differ; what is left open does not."""
    now, before = config.open_as(former).flat(), former.flat()
    return [name for name in now if now[name] != before[name]]


def prolongs(config: RunConfig, former: RunConfig, count_epochs: Callable[[], int]) -> bool:
    """Whether settings are those of a run that has ended, with more epochs."""
    before, now = former.optimization.epochs or 0, config.optimization.epochs or 0
    return (
        now > before > 0
        and set(differing(config, former)) <= {"epochs", "earlier_epochs"}
        and count_epochs() == before
    )


def with_earlier_epochs(
    config: RunConfig, former: RunConfig, count_epochs: Callable[[], int]
) -> RunConfig:
    """The settings with the epochs that the folder's run has behind it, if they go on with it."""
    if config.optimization.earlier_epochs:
        return config
    earlier = former.optimization.earlier_epochs
    if prolongs(config, former, count_epochs):
        return config.replace(earlier_epochs=(*earlier, former.num_epochs))
    return config.replace(earlier_epochs=earlier) if is_same(config, former) else config


def is_same(config: RunConfig, former: RunConfig) -> bool:
    """Whether nothing differs but what was prolonged before, which the epochs imply."""
    return set(differing(config, former)) <= {"earlier_epochs"}


def describe_differences(config: RunConfig, former: RunConfig) -> str:
    """Former and new value of each setting that differs; nothing where none does."""
    names = differing(config, former)
    # What was prolonged before follows from the number of epochs.
    names = [name for name in names if name != "earlier_epochs"] or names
    now, before = config.flat(), former.flat()
    return ", ".join(f"{name}={before[name]!r} -> {now[name]!r}" for name in names)
