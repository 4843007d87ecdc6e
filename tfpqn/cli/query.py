"""`tfpqn query`: search a served model with files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tfpqn.cli.answers import answer_files, tell_of_part
from tfpqn.cli.queries import read_queries
from tfpqn.cli.shared import AsJson, DeltaAddress, NumFound, NumFrames, QueryFiles, read_ids

if TYPE_CHECKING:
    from tfpqn.export.client import SearchClient, ShardedSearchClient


def query(
    files: QueryFiles,
    model: Annotated[str, typer.Option(help="The model's name on the server.")],
    address: Annotated[
        list[str] | None,
        typer.Option(
            help="HOST:PORT of gRPC, localhost:8500; with --rest of REST, or a URL. Of shards the "
            "address of each, in order; HOST:PORT,HOST:PORT for servers of the same shard."
        ),
    ] = None,
    delta: DeltaAddress = None,
    version: Annotated[int | None, typer.Option(help="Version to ask; the latest.")] = None,
    label: Annotated[str | None, typer.Option(help="Label of the version to ask.")] = None,
    rest: Annotated[bool, typer.Option("--rest", help="Speak REST rather than gRPC.")] = False,
    k: NumFound = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Id to leave out; may be given again.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="Tag COLUMN=VALUE that items may have; one of several is enough."),
    ] = None,
    deny: Annotated[
        list[str] | None, typer.Option(help="Tag COLUMN=VALUE that no item may have.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for each file.")] = 10.0,
    tls: Annotated[bool, typer.Option("--tls", help="Encrypt, as --ca-file does.")] = False,
    ca_file: Annotated[
        Path | None, typer.Option(help="PEM file of authorities, in place of the system's.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="File that holds a token.")] = None,
    num_frames: NumFrames = 16,
    as_json: AsJson = False,
) -> None:
    from tfpqn.export.client import SearchClient, ServingError

    try:
        with _open_client(
            address or ["localhost:8500"],
            delta,
            model,
            version=version,
            version_label=label,
            timeout=timeout,
            token=_read_token(token_file),
            tls=tls if ca_file is None else str(ca_file),
            rest=rest,
        ) as client:
            arguments = {
                "k": k,
                "exclude_ids": _read_ids(client, exclude),
                "allow_tags": allow or None,
                "deny_tags": deny or None,
            }
            items = client.items()
            if isinstance(client, SearchClient):
                _tell_of_part(client)

            def find(file: Path) -> Any:
                """One request a file, so that an error can name the file."""
                queries = read_queries(file, items, num_frames)
                try:
                    return client.search(queries, **arguments)
                except ServingError as error:
                    named = f"{file}: {error.message}"
                    # Another server would say the same of this file, and of no other.
                    if error.code == "INVALID_ARGUMENT":
                        raise ValueError(named) from error
                    raise ServingError(error.code, named) from error
                except (TypeError, ValueError) as error:
                    raise ValueError(f"{file}: {error}") from error

            answer_files(files, find, as_json)
    except ServingError as error:
        raise ValueError(error.message) from error


def _tell_of_part(client: SearchClient) -> None:
    from tfpqn.export.interface.shard import DESCRIBE_SHARD

    if DESCRIBE_SHARD in client.signatures():
        shard = client.predict(DESCRIBE_SHARD, {"rows": [0]})
        tell_of_part(int(shard["number"][0]), int(shard["num_shards"][0]))


def _open_client(
    addresses: list[str], delta: str | None, model: str, **options: Any
) -> SearchClient | ShardedSearchClient:
    """A client of one server, or of one server or several for each shard and for a delta."""
    from tfpqn.export.client import SearchClient, ShardedSearchClient

    if len(addresses) == 1 and "," not in addresses[0] and delta is None:
        return SearchClient(addresses[0], model, **options)
    shards = [address.split(",") for address in addresses]
    if delta is not None:
        options["delta"] = delta.split(",")
    return ShardedSearchClient(shards, model, **options)


def _read_ids(
    client: SearchClient | ShardedSearchClient, exclude: list[str] | None
) -> list[Any] | None:
    """Ids of the type that the model has."""
    if not exclude:
        return None
    signature = client.signatures().get("search_with_exclusions")
    id_type = "string" if signature is None else signature.inputs["exclude_ids"].dtype
    return read_ids(exclude, id_type, "--exclude")


def _read_token(file: Path | None) -> str | None:
    if file is None:
        return None
    if not file.is_file():
        raise FileNotFoundError(f"--token-file must be a file. Received: {str(file)!r}")
    return file.read_text(encoding="utf-8").strip()
