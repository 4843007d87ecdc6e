"""Encoded images in TFRecord files of `tf.train.Example`, and in Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tfpqn._text import plain_sentence
from tfpqn.beam import storage
from tfpqn.datasets.lazy_tensorflow import tf

# The names that people give to features or columns; the first that a file has counts.
IMAGE_NAMES = ("image", "image/encoded")
LABEL_NAMES = ("label", "image/class/label")
ID_NAMES = ("id",)
_ROWS_AT_ONCE = 256
_INT64 = range(-(2**63), 2**63)


class Record(NamedTuple):
    """One example.

    Attributes:
        place: File name and number: `a.tfrecord:17`, `a.parquet:17`.
        image: Bytes of an image file; None if there are none.
        id: Its own id; None without one.
        label: Its label; None without one.
        fault: Why it cannot be used, or "".
    """

    place: str
    image: bytes | None = None
    id: str | int | None = None
    label: int | None = None
    fault: str = ""


class Records(NamedTuple):
    """The examples of a file.

    Attributes:
        images: Bytes of image files, of those that can be used.
        columns: Ids and labels of these.
        broken: Place of each other one, and why it cannot be used.
    """

    images: list[bytes]
    columns: pa.Table
    broken: list[tuple[str, str]]


def read_records(path: str) -> Iterator[Record]:
    """Yields the examples of a file; where it is torn, the last says so."""
    name, number = PurePosixPath(path).name, -1
    if not storage.exists(path):
        yield Record(f"{name}:0", fault="the file has gone")
        return
    rows = _read_parquet if path.endswith(".parquet") else _read_examples
    # What fails while a file is fetched may pass: the runner tries again.
    with storage.local_copy(path) as file:
        try:
            for number, row in enumerate(rows(file)):
                yield _to_record(f"{name}:{number}", row)
        except (tf.errors.OpError, pa.ArrowException, OSError) as error:
            reason = plain_sentence(str(getattr(error, "message", error)))
            fault = f"the file cannot be read from here on: {reason}"
            yield Record(f"{name}:{number + 1}", fault=fault)


def read_columns(path: str, schema: pa.Schema) -> Records:
    """The examples of a file, of which an index of the schema can keep the ids and labels."""
    wanted = {pa.int64(): int}.get(schema.field("id").type, str)
    images, ids, labels, broken = [], [], [], []
    for record in read_records(path):
        id_ = record.place if record.id is None and wanted is str else record.id
        label = -1 if record.label is None else record.label
        fault = record.fault or _fault_of(id_, label, wanted)
        if fault or record.image is None:
            broken.append((record.place, fault))
            continue
        images.append(record.image)
        ids.append(id_)
        labels.append(label)
    columns = {"id": pa.array(ids, schema.field("id").type)}
    if "label" in schema.names:
        columns["label"] = pa.array(labels, pa.int64())
    return Records(images, pa.table(columns), broken)


def _fault_of(id_: Any, label: int, wanted: type) -> str:
    """Why an index cannot keep them, or ""."""
    # Search answers "no item" by -1 and "".
    if type(id_) is not wanted or id_ in (-1, ""):
        return f"expected an id of the type {wanted.__name__}, not -1 or ''. Received: {id_!r}"
    numbers = (id_, label) if wanted is int else (label,)
    wide = [number for number in numbers if number not in _INT64]
    return f"expected whole numbers of 64 bits with a sign. Received: {wide[0]}" if wide else ""


def _read_examples(path: Path) -> Iterator[Any]:
    for data in tf.data.TFRecordDataset(str(path)):
        yield data.numpy()


def _parse_example(data: bytes) -> dict[str, Any]:
    features = tf.train.Example.FromString(data).features.feature
    return {name: _only_value(feature) for name, feature in features.items()}


def _read_parquet(path: Path) -> Iterator[Any]:
    with pq.ParquetFile(path) as file:
        known = (*IMAGE_NAMES, *LABEL_NAMES, *ID_NAMES)
        names = [name for name in file.schema_arrow.names if name in known]
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=names):
            yield from batch.to_struct_array()


def _only_value(feature: Any) -> Any:
    kind = feature.WhichOneof("kind")
    values: Any = getattr(feature, kind).value if kind else ()
    return values[0] if len(values) == 1 else None


def _to_record(place: str, data: Any) -> Record:
    """The example of a row: one of Parquet, or the bytes of a `tf.train.Example`."""
    try:
        row = _parse_example(data) if isinstance(data, bytes) else data.as_py()
    # Text that is no UTF-8; and protobuf's own error, which derives from Exception alone.
    except Exception as error:
        return Record(place, fault=f"expected a whole record. Received: {error}")
    image, label, id_ = (
        next((row[name] for name in names if name in row), None)
        for names in (IMAGE_NAMES, LABEL_NAMES, ID_NAMES)
    )
    if isinstance(image, dict):  # As Hugging Face's datasets keep images.
        image = image.get("bytes")
    if not isinstance(image, bytes):
        names = " or ".join(map(repr, IMAGE_NAMES))
        fault = f"expected the bytes of one image as {names}. Received: {sorted(row)}"
        return Record(place, fault=fault)
    if isinstance(id_, bytes):
        id_ = id_.decode(errors="backslashreplace")
    if isinstance(label, float) and label.is_integer():
        label = int(label)  # A column of whole numbers in which some were missing.
    if label is None or label != label:  # NaN
        return Record(place, image, id_)
    if not isinstance(label, int):
        return Record(place, fault=f"expected a whole number as label. Received: {label!r}")
    return Record(place, image, id_, int(label))
