"""`tfpqn search`: search an exported model with files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tfpqn.cli.answers import answer_files, tell_of_part
from tfpqn.cli.shared import AsJson, NumFound, NumFrames, QueryFiles


def search(
    files: QueryFiles,
    model: Annotated[Path, typer.Option(help="Version folder: models/NAME/VERSION.")],
    k: NumFound = None,
    num_frames: NumFrames = 16,
    as_json: AsJson = False,
) -> None:
    from tfpqn.cli.queries import read_queries
    from tfpqn.datasets import plain_sentence
    from tfpqn.export import StatusError, load_searcher

    searcher = load_searcher(model)
    if shard := searcher.manifest.get("shard"):
        tell_of_part(shard["number"], shard["num_shards"])
    if k is not None and "search_k" not in searcher.manifest["signatures"]:
        raise ValueError(
            "--k needs a model with the signature search_k: export its index again, or with "
            f"--top-k {k}. Received: {str(model)!r}, which has none"
        )

    def find(file: Path) -> Any:
        queries = read_queries(file, searcher.items, num_frames)
        try:
            return searcher(queries, k)
        except StatusError as error:
            raise ValueError(f"{file}: {plain_sentence(error.message)}") from error

    answer_files(files, find, as_json)
