"""`tfpqn train`: its options are the settings of a run."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tfpqn._text import counted
from tfpqn.cli.shared import DataDir, RunDir, console, report_skipped
from tfpqn.training.settings.run_config import settings_by_name, types_by_name

if TYPE_CHECKING:
    from tfpqn.datasets import Splits
    from tfpqn.training import RunConfig

PANELS = {
    "data": "Data",
    "model": "Model",
    "loss": "Loss",
    "optimization": "Optimisation",
    "": "Options",
}
# Settings that may be given beside a recipe.
BESIDE_RECIPES = {"seed", "initial_run", "weights"}


def train(
    run_dir: RunDir,
    recipe: Annotated[
        str | None, typer.Option(help="Settings of a recipe, TABLE/ROW: cifar10-p1/pqn-24.")
    ] = None,
    data_dir: DataDir = None,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 200,
    evaluate_every: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs between evaluations of at most 1,000 queries."),
    ] = None,
    distribute: Annotated[
        Literal["mirrored", "workers"] | None,
        typer.Option(
            help="Share each batch: mirrored, among the GPUs of this machine; workers, among the "
            "machines of TF_CONFIG."
        ),
    ] = None,
    **settings: Any,
) -> None:
    from tfpqn.training import Run, RunConfig
    from tfpqn.training import train as train_run
    from tfpqn.training.loops.strategies import open_strategy

    given = {name: value for name, value in settings.items() if value not in (None, [])}
    config = RunConfig.of(**given) if recipe is None else _read_recipe(recipe, given)
    # Before all else: TensorFlow takes no other workers once it has computed.
    strategy = open_strategy(distribute, console.print)
    run = Run.start(run_dir, config, writes=strategy is None or strategy.extended.should_checkpoint)
    earlier = run.config.optimization.earlier_epochs
    if earlier != config.optimization.earlier_epochs:
        console.print(
            f"The run ended with epoch {earlier[-1]} and goes on to {run.config.num_epochs}, at "
            "the learning rates that a run of so many has from there."
        )
    if config.model.initial_run and not run.has_begun:
        # Said before the data is read.
        Run.open(config.model.initial_run)
    splits = run.load_splits(data_dir)
    report_skipped(splits.train)
    _print_choices(run.for_items(splits.train).config, splits)
    if (done := run.count_kept_epochs()) > max(earlier, default=0) and not run.is_trained:
        console.print(f"The run goes on after epoch {done}.")
    train_run(
        run,
        splits,
        checkpoint_every=checkpoint_every,
        evaluate_every=evaluate_every,
        strategy=strategy,
    )
    console.print(f"Trained. The network is in {run.folder / 'network.keras'}")


def _print_choices(config: RunConfig, splits: Splits) -> None:
    """What the run does, in three lines, and the options that change it."""
    model, items = config.model, splits.train.items
    given = f"{counted(len(splits.train), items.kind)} to train with"
    if splits.train.has_labels and splits.train.label_names:
        given += f" of {counted(len(splits.train.label_names), 'labels')}"
    console.print(f"{given}, {counted(len(splits.query), 'queries')} (--labels names others).")
    if items.has_pixels:
        height = config.data.image_size if model.weights else splits.train.image_shape[0]
        frozen = ", frozen (--no-freeze-backbone)" if model.freeze_backbone else ""
        console.print(
            f"Backbone {model.backbone} (--backbone, --weights) at {height} pixels "
            f"(--image-size){frozen}."
        )
    code = f"Codes of {counted(model.bits or 0, 'bits')} (--bits), {model.kind} (--model)"
    if model.is_fitted:
        console.print(
            f"{code}, fitted to {items.kind} as they are by {model.similarity} (--similarity)."
        )
        return
    rate = config.optimization.learning_rate
    console.print(
        f"{code}; {counted(config.num_epochs, 'epochs')} (--epochs) of batches of "
        f"{config.data.images_per_step} (--batch-size), rate {rate:g} (--learning-rate)."
    )


def _add_options() -> None:
    """Give `train` an option for each setting."""
    own = inspect.signature(train, eval_str=True)
    kept = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, (section, field) in settings_by_name().items()
        if field.metadata["has_option"]
        for option in [_make_option(field, types_by_name()[name], PANELS[section])]
    ]
    train.__signature__ = own.replace(parameters=[*kept, *options])  # type: ignore[attr-defined]


def _make_option(field: dataclasses.Field[Any], hint: Any, panel: str) -> Any:
    """The option of a setting, whose help names the default; left out it is None."""
    default = field.default
    shown = default if default is not None else field.metadata["default_text"]
    if isinstance(default, tuple):
        shown = ",".join(map(str, default))
    elif isinstance(default, bool):
        shown = "on" if default else "off"
    (kind,) = [each for each in typing.get_args(hint) or [hint] if each is not type(None)][:1]
    is_list = typing.get_origin(hint) is tuple
    # A name may hold a comma: the option is given again for each.
    are_numbers = is_list and kind is not str
    taken: Any = str if are_numbers else list[str] if is_list else kind
    return Annotated[
        taken | None,
        typer.Option(
            help=field.metadata["help"],
            show_default=False if shown is None else str(shown),
            rich_help_panel=panel,
            parser=_read_numbers(kind) if are_numbers else None,
        ),
    ]


def _read_numbers(kind: type) -> Callable[[str], tuple[Any, ...]]:
    """What reads numbers with commas between them."""

    def read(text: str) -> tuple[Any, ...]:
        try:
            return tuple(kind(part) for part in text.split(","))
        except ValueError:
            raise typer.BadParameter(
                "must be a number, or several with commas between them, as in 1,2,4. "
                f"Received: {text}"
            ) from None

    return read


def _read_recipe(path: str, given: dict[str, Any]) -> RunConfig:
    """The settings of a recipe, which no other option changes but where the weights come from."""
    from tfpqn.training.recipes import find_recipe

    recipe = find_recipe(path)
    if others := [f"--{name.replace('_', '-')}" for name in given.keys() - BESIDE_RECIPES]:
        raise ValueError(
            f"--recipe settles all settings. Received: {', '.join(sorted(others))} as well"
        )
    initial_run, weights = given.get("initial_run"), given.get("weights")
    if (recipe.start is None) != (initial_run is None):
        wanted = f"--initial-run, a run of {recipe.start!r}" if recipe.start else "no --initial-run"
        raise ValueError(f"The recipe {path!r} needs {wanted}. Received: {initial_run}")
    config = recipe.config_of(given.get("seed", 0), initial_run)
    if weights is None:
        return config
    if config.model.weights is None:
        raise ValueError(f"The recipe {path!r} starts from no weights. Received: {weights!r}")
    return config.replace(weights=weights)


_add_options()
