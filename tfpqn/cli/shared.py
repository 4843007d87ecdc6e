"""Options that several commands have, and what they say alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import rich.console
import rich.text
import typer

from tfpqn._command_line import printable
from tfpqn._text import counted

if TYPE_CHECKING:
    from tfpqn.datasets import ImageSet


class PlainConsole(rich.console.Console):
    """Prints text as it is: no markup, no names of emoji, and control characters escaped."""

    def render_str(self, text: str, **options: Any) -> rich.text.Text:
        return super().render_str(printable(text), **{**options, "markup": False, "emoji": False})


# A path that is wrapped cannot be copied, or read by a program.
console = PlainConsole(soft_wrap=True, highlight=False)
error_console = PlainConsole(stderr=True, soft_wrap=True, highlight=False)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
QueryFiles = Annotated[
    list[Path],
    typer.Argument(
        help="Image files; of clips video files, or folders of frames; of vectors .npy, .npz or "
        ".parquet files."
    ),
]
NumFrames = Annotated[
    int, typer.Option(min=1, help="Frames taken of a video file, best as in training.")
]
NumFound = Annotated[
    int | None, typer.Option(min=1, help="Items to return; the model's own number by default.")
]
RunDir = Annotated[Path, typer.Option(help="Folder of the training run.")]
DeltaAddress = Annotated[
    str | None,
    typer.Option(help="HOST:PORT of the delta that `tfpqn ingest` writes; of several A:1,B:1."),
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder of data sets: prepared by tensorflow-datasets, or npz files."),
]
ProtocolName = Annotated[str | None, typer.Option(help="Name of a protocol, as of train.")]
ImagesFolder = Annotated[
    Path | None, typer.Option(help="Folder of images, one subfolder per label.")
]
VideosFolder = Annotated[
    Path | None, typer.Option(help="Folder of videos, one subfolder per label; or .npz set.")
]
VectorsFile = Annotated[
    Path | None, typer.Option(help="File of vectors of another model: .npy, .npz, .parquet.")
]
LabelsTable = Annotated[
    Path | None, typer.Option(help="Table of labels of the items, as of train.")
]


def report_skipped(images: ImageSet) -> None:
    """Name the files that could not be read, and count those of other kinds, on stderr."""
    if images.passed_over:
        from tfpqn.datasets.labelled_files import describe_kinds

        kinds = describe_kinds(images.passed_over)
        number = counted(sum(images.passed_over.values()), "files")
        error_console.print(f"Passed over {number} of other kinds: {kinds}")
    if not images.skipped:
        return
    number = counted(len(images.skipped), "files")
    error_console.print(f"Skipped {number} that could not be read:")
    for id_, reason in images.skipped.items():
        error_console.print(f"  {id_}: {reason}")


def read_ids(texts: list[str], id_type: str, name: str) -> list[Any]:
    """Ids of the type that an index has, from texts.

    Raises:
        ValueError: The index has numbers, and a text is none of 64 bits.
    """
    if id_type == "string":
        return list(texts)
    for text in texts:
        if not (text.removeprefix("-").isdecimal() and -(2**63) <= int(text) < 2**63):
            raise ValueError(
                f"{name} must be whole numbers of 64 bits, as the index has them. "
                f"Received: {text!r}"
            )
    return [int(text) for text in texts]


def is_user_error(error: BaseException) -> bool:
    """Whether the message alone says what to do: bad values, files, options, what is missing."""
    if isinstance(error, (ImportError, OSError, ValueError)) or hasattr(error, "format_message"):
        return True
    # Of TensorFlow's own, what a file or a request caused: its classes are known by their status.
    return getattr(error, "code", None) == "INVALID_ARGUMENT" or hasattr(error, "op")


def one_line(error: BaseException) -> str:
    """The message in one line; the name of the error's class without one."""
    format_message = getattr(error, "format_message", None)
    message = format_message() if format_message else str(error)
    return " ".join(message.split()) or type(error).__name__
