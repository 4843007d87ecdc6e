"""The REST API's JSON as arrays and back, in TensorFlow Serving's row and column formats.

Row format: {"instances": [...]} -> {"predictions": [...]}, one element a row.
Column format: {"inputs": ...} -> {"outputs": ...}, one nested list a tensor.

Where a signature has one input or output alone, its name is left out. Bytes are written
{"b64": "..."}, strings as strings; outputs whose names end in `_bytes` come as b64. Whatever JSON
comes in, the functions raise ServingError alone.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from itertools import chain
from json.encoder import encode_basestring
from typing import Any, NamedTuple

import numpy as np

from ..interface.signatures import Arrays, TensorInfo
from .errors import ServingError

__all__ = ["Body", "parse_body", "read_arrays", "write_outputs"]

# A parsed list or object takes 20 times the memory of its two characters, so they are counted
# before they are parsed: 1024 rows of 4096 numbers pass.
MAX_CONTAINERS = 2**19
MAX_VALUES = 2**22
MAX_RANK = 8
_SHOWN_CHARACTERS = 60
# The stock server passes over these in Base64, which many programs break into lines.
_WHITE_SPACE = b" \t\n\v\f\r"


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
    """Parse a request's body.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    document = _parse_json(data)
    if not isinstance(document, dict):
        raise _refusal("the JSON body must be an object", document)
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise _refusal("'signature_name' key must be a string value", name)
    is_rows = "instances" in document
    if is_rows == ("inputs" in document):
        raise _refusal(
            "the JSON body must hold either 'instances' or 'inputs'", sorted(document)[:10]
        )
    values = document["instances" if is_rows else "inputs"]
    if is_rows and not (isinstance(values, list) and values):
        raise _refusal("'instances' must be a list that is not empty", values)
    return Body(name, is_rows, values)


def _parse_json(data: bytes) -> Any:
    if data.count(b"[") + data.count(b"{") > MAX_CONTAINERS or data.count(b",") > MAX_VALUES:
        raise ServingError(
            "INVALID_ARGUMENT",
            f"the JSON body must hold at most {MAX_CONTAINERS} lists and {MAX_VALUES} values. "
            "Received: more",
        )
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ServingError(
            "INVALID_ARGUMENT", f"JSON Parse error: {error}. Received: {len(data)} bytes"
        ) from error


def read_arrays(body: Body, infos: Mapping[str, TensorInfo]) -> Arrays:
    """Make arrays of a body's values.

    Args:
        body: A parsed body.
        infos: The signature's inputs by name.

    Returns:
        Arrays of the dtypes of the signature, of any shapes; strings as object arrays of bytes.

    Raises:
        ServingError: INVALID_ARGUMENT, naming the input.
    """
    columns = _columns_of_rows(body.values, infos) if body.is_rows else body.values
    if not body.is_rows and (not isinstance(columns, dict) or _is_base64(columns)):
        columns = {_only_name(infos, "'inputs'"): columns}
    if columns.keys() != infos.keys():
        raise _refusal(f"the inputs must be {sorted(infos)}", sorted(columns)[:10])
    return {name: _read_array(name, info, columns[name]) for name, info in infos.items()}


def _columns_of_rows(rows: list[Any], infos: Mapping[str, TensorInfo]) -> dict[str, Any]:
    if not isinstance(rows[0], dict) or _is_base64(rows[0]):
        return {_only_name(infos, "'instances'"): rows}
    for row in rows:
        if not isinstance(row, dict) or row.keys() != infos.keys():
            raise _refusal(
                f"each element of 'instances' must be an object with the keys {sorted(infos)}", row
            )
    return {name: [row[name] for row in rows] for name in infos}


def _only_name(infos: Mapping[str, TensorInfo], place: str) -> str:
    if len(infos) != 1:
        raise ServingError(
            "INVALID_ARGUMENT", f"{place} must name the inputs {sorted(infos)}. Received: no names"
        )
    return next(iter(infos))


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _read_array(name: str, info: TensorInfo, value: Any) -> np.ndarray:
    shape, leaves = _flatten(name, value)
    if info.dtype == "string":
        array = np.empty(len(leaves), object)
        array[:] = [_read_string(name, leaf) for leaf in leaves]
    else:
        array = _read_numbers(name, info.dtype, leaves)
    return array.reshape(shape)


def _flatten(name: str, value: Any) -> tuple[list[int], list[Any]]:
    """Sizes of nested lists, and what stands in the innermost ones."""
    shape: list[int] = []
    values = [value]
    while values and isinstance(values[0], list):
        sizes = {len(inner) if isinstance(inner, list) else -1 for inner in values}
        if len(sizes) > 1 or len(shape) == MAX_RANK:
            raise _refusal(f"{name} must be nested lists of equal lengths", value)
        shape.append(sizes.pop())
        values = list(chain.from_iterable(values))
    if any(isinstance(leaf, list) for leaf in values):
        raise _refusal(f"{name} must be nested lists of equal lengths", value)
    return shape, values


def _read_string(name: str, value: Any) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise _refusal(f"{name} must hold strings of Unicode characters", value) from None
    if not _is_base64(value):
        raise _refusal(f'{name} must hold strings or {{"b64": "..."}}', value)
    text = value["b64"]
    try:
        data = text.encode("ascii").translate(None, _WHITE_SPACE)
        return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _refusal(f"{name} must hold Base64 in 'b64'", text) from None


def _read_numbers(name: str, dtype: str, leaves: list[Any]) -> np.ndarray:
    kind = np.dtype(dtype).kind
    by_kind: dict[str, set[type]] = {"f": {int, float}, "b": {bool}}
    allowed = by_kind.get(kind, {int})
    found = set(map(type, leaves))
    if not found <= allowed:
        wrong = next(leaf for leaf in leaves if type(leaf) not in allowed)
        raise _refusal(f"{name} must hold values of type {dtype}", wrong)
    try:
        if kind != "f":
            return np.array(leaves, dtype)
        wide = np.array(leaves, np.float64)
    except OverflowError:
        raise _refusal(f"{name} must hold values within {dtype}", "a larger one") from None
    finite = wide[np.isfinite(wide)]
    if finite.size and np.abs(finite).max() > np.finfo(dtype).max:
        raise _refusal(f"{name} must hold values within {dtype}", "a larger one")
    return wide.astype(dtype)


def write_outputs(outputs: Arrays, is_rows: bool) -> bytes:
    """Write outputs as the JSON of an answer.

    Args:
        outputs: Arrays by output name.
        is_rows: Whether the request came in row format.

    Raises:
        ServingError: INVALID_ARGUMENT if rows are wanted and the outputs have none in common.
    """
    if not is_rows:
        texts = {name: _write_array(name, array) for name, array in sorted(outputs.items())}
        return f'{{"outputs": {_name_texts(texts)}}}'.encode()
    if len({array.shape[:1] for array in outputs.values()} | {()}) != 2:
        raise ServingError(
            "INVALID_ARGUMENT",
            "the outputs must have equally many rows for 'instances'; ask with 'inputs'. Received: "
            f"{ {name: array.shape for name, array in outputs.items()} }",
        )
    columns = {name: _write_rows(name, array) for name, array in sorted(outputs.items())}
    rows = zip(*columns.values(), strict=True)
    texts_of_rows = [_name_texts(dict(zip(columns, row, strict=True))) for row in rows]
    return f'{{"predictions": [{", ".join(texts_of_rows)}]}}'.encode()


def _name_texts(texts: dict[str, str]) -> str:
    """One output stands alone, several are named."""
    if len(texts) == 1:
        return next(iter(texts.values()))
    return "{" + ", ".join(f"{encode_basestring(name)}: {texts[name]}" for name in texts) + "}"


def _write_array(name: str, array: np.ndarray) -> str:
    if not array.ndim:
        return _write_leaves(name, array)[0]
    return f"[{', '.join(_write_rows(name, array))}]"


def _write_rows(name: str, array: np.ndarray) -> list[str]:
    """The text of each element along the first axis."""
    texts = _write_leaves(name, array)
    for axis in range(array.ndim - 1, 0, -1):
        size, number = array.shape[axis], int(np.prod(array.shape[:axis]))
        texts = [f"[{', '.join(texts[i * size : (i + 1) * size])}]" for i in range(number)]
    return texts


def _write_leaves(name: str, array: np.ndarray) -> list[str]:
    kind = array.dtype.kind
    if kind == "O":
        return [_write_string(name, value) for value in array.ravel().tolist()]
    if kind == "f":
        # The shortest digits that give the same number again; JSON knows no NaN and no infinity.
        texts = array.ravel().astype("U32").tolist()
        if np.isfinite(array).all():
            return texts
        finite = np.isfinite(array).ravel().tolist()
        return [text if ok else "null" for text, ok in zip(texts, finite, strict=True)]
    if kind == "b":
        return ["true" if value else "false" for value in array.ravel().tolist()]
    return [str(value) for value in array.ravel().tolist()]


def _write_string(name: str, value: bytes) -> str:
    if name.endswith("_bytes"):
        return f'{{"b64": "{base64.b64encode(value).decode()}"}}'
    return encode_basestring(value.decode("utf-8", "replace"))


def _refusal(wanted: str, received: Any) -> ServingError:
    return ServingError("INVALID_ARGUMENT", f"{wanted}. Received: {_show(received)}")


def _show(value: Any) -> str:
    """A short form of a value of any size and depth."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object with the keys {[str(key)[:_SHOWN_CHARACTERS] for key in value][:10]}"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 64:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, str) and len(value) > _SHOWN_CHARACTERS:
        return f"a string of {len(value)} characters"
    return ascii(value)
