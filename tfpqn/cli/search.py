"""`tfpqn search`: search an exported model with files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tfpqn.cli.answers import describe_answer, print_answers
from tfpqn.cli.shared import AsJson, console


def search(
    files: Annotated[
        list[Path],
        typer.Argument(help="Image files; of clips video files, or folders of frames."),
    ],
    model: Annotated[Path, typer.Option(help="Version folder: models/NAME/VERSION.")],
    num_frames: Annotated[
        int, typer.Option(min=1, help="Frames taken of a video file, best as in training.")
    ] = 16,
    as_json: AsJson = False,
) -> None:
    from tfpqn.cli.queries import read_query
    from tfpqn.datasets import plain_sentence
    from tfpqn.export import StatusError, load_searcher

    searcher = load_searcher(model)
    queries = [read_query(file, searcher.items, num_frames) for file in files]
    answers = []
    for file, item in zip(files, queries, strict=True):
        try:
            answers.append(describe_answer(file, searcher([item])))
        except StatusError as error:
            raise ValueError(f"{file}: {plain_sentence(error.message)}") from error
    print_answers(answers, as_json, console)
