"""Requests and answers of the REST API, in TensorFlow Serving's row and column formats.

Row format: {"instances": [...]} -> {"predictions": [...]}, one element a row.
Column format: {"inputs": ...} -> {"outputs": ...}, one nested list a tensor.

Where a signature has one input or output alone, its name is left out. Bytes are written
{"b64": "..."}, strings as strings. Whatever JSON comes in, the functions raise ServingError alone.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np

from ..interface.json_values import from_json, is_bytes
from ..interface.signatures import Arrays, Signature
from .model_version import read_request
from .refusals import bad_request


class Body(NamedTuple):
    """A parsed request.

    Attributes:
        signature_name: The signature; empty for the default one.
        is_rows: Whether it came in row format.
        values: What "instances" or "inputs" held.
    """

    signature_name: str
    is_rows: bool
    values: Any


def parse_body(data: bytes) -> Body:
    """Parse a request's body."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"JSON Parse error: {error}. Received: {len(data)} bytes") from None
    if not isinstance(document, dict):
        raise bad_request(f"the JSON body must be an object. Received: {_kind(document)}")
    name, is_rows = document.get("signature_name", ""), "instances" in document
    if not isinstance(name, str):
        raise bad_request(f"'signature_name' key must be a string value. Received: {_kind(name)}")
    if is_rows == ("inputs" in document):
        raise bad_request(
            "the JSON body must hold either 'instances' or 'inputs'. Received the keys "
            f"{ascii(sorted(document)[:5])}"
        )
    values = document["instances" if is_rows else "inputs"]
    if is_rows and not (isinstance(values, list) and values):
        received = "an empty list" if values == [] else _kind(values)
        raise bad_request(f"'instances' must be a list that is not empty. Received: {received}")
    return Body(name, is_rows, values)


def read_arrays(body: Body, name: str, signature: Signature) -> Arrays:
    """Arrays of a body's values for a signature."""
    columns = _columns_of_rows(body.values) if body.is_rows else body.values
    if not isinstance(columns, dict) or is_bytes(columns):
        if len(signature.inputs) != 1:
            raise bad_request(
                f"the inputs {sorted(signature.inputs)} must be named. Received: none"
            )
        columns = {next(iter(signature.inputs)): columns}
    return read_request(columns, name, signature, from_json)


def _columns_of_rows(rows: list[Any]) -> Any:
    """Columns by name, or the one column of rows that have no names."""
    if not isinstance(rows[0], dict) or is_bytes(rows[0]):
        return rows
    names = rows[0].keys()
    if not all(isinstance(row, dict) and row.keys() == names for row in rows):
        raise bad_request(
            "each element of 'instances' must be an object with the same keys. Received: others"
        )
    return {name: [row[name] for row in rows] for name in names}


def write_outputs(outputs: Arrays, is_rows: bool) -> bytes:
    """The JSON of an answer."""
    values = {name: _to_values(array) for name, array in sorted(outputs.items())}
    if not is_rows:
        return _write("outputs", _without_only_name(values))
    rows = zip(*values.values(), strict=True)
    named = [_without_only_name(dict(zip(values, row, strict=True))) for row in rows]
    return _write("predictions", named)


def _without_only_name(values: dict[str, Any]) -> Any:
    return next(iter(values.values())) if len(values) == 1 else values


def _write(key: str, values: Any) -> bytes:
    return json.dumps({key: values}, ensure_ascii=False, allow_nan=False).encode()


def _to_values(array: np.ndarray) -> Any:
    if array.dtype == object:
        texts = [value.decode("utf-8", "replace") for value in array.ravel()]
        return np.fromiter(texts, object, len(texts)).reshape(array.shape).tolist()
    if array.dtype.kind != "f":
        return array.tolist()
    # By way of text: the fewest digits that give the same number again.
    values = array.astype("U32").astype(np.float64).astype(object)
    # JSON knows no NaN and no infinity.
    values[~np.isfinite(array)] = None
    return values.tolist()


def _kind(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__
