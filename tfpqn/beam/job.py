"""What a job codes, as its staging folder says."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tfpqn.beam import storage
from tfpqn.files.foreign import reading
from tfpqn.files.typed_json import require_types
from tfpqn.index.code_layout import CodeLayout
from tfpqn.index.schema import IdType, index_schema, metadata_type

JOB_FILE = "job.json"
# Row group number N holds the items of unit N: the columns of the index but for the codes, and
# where an item is: its file, or its row in the file of all.
ITEMS_FILE = "items.parquet"
PLACE_COLUMN = "tfpqn:place"
NETWORK_FILE = "network.keras"
# Sources whose files hold many items each, with what is known of them.
RECORD_SOURCES = ("tfrecords", "parquet")
_EXPECTED = "the job of a staging folder"


@dataclass(frozen=True)
class JobSettings:
    """What a job was asked for; a job goes on only with the same settings.

    Attributes:
        source: What the items are read from: images, videos, vectors, tfrecords or parquet.
        path: The folder, file or pattern.
        contents: Size and time of change of a file that holds all items, or None.
        labels: Digest of the table of labels, or None.
        image_shape: Shape of an image or frame, or of a vector.
        num_frames: Frames of a clip, where they were asked for.
        resize: What becomes of another aspect.
        batch_size: Images coded at once.
        rows_per_part: Most items of a unit.
        network: Digest of the network's file.
        version: Version of the package.
    """

    source: str
    path: str
    contents: str | None
    labels: str | None
    image_shape: tuple[int, ...]
    num_frames: int | None
    resize: str
    batch_size: int
    rows_per_part: int
    network: str
    version: str

    @property
    def is_records(self) -> bool:
        """Whether a unit is a file of records."""
        return self.source in RECORD_SOURCES


@dataclass(frozen=True)
class Job:
    """What is coded, by which network, and in how many units.

    Attributes:
        staging: The folder, which all workers see: a local path, or an address as of gs://.
        settings: What was asked for.
        layout: The look of the codes.
        id_type: Either "int64" or "string".
        columns: Name -> type of each metadata column.
        num_frames: Frames of a clip, or None.
        num_units: How many units there are; a unit becomes one part of the index.
    """

    staging: str
    settings: JobSettings
    layout: CodeLayout
    id_type: IdType
    columns: dict[str, str]
    num_frames: int | None
    num_units: int

    @property
    def schema(self) -> pa.Schema:
        """The schema of all parts."""
        columns = {name: metadata_type(kind) for name, kind in self.columns.items()}
        return index_schema(self.layout, self.id_type, columns)

    @property
    def digest(self) -> str:
        """By which the parts of another job are told."""
        return hashlib.sha256(self._to_json()).hexdigest()

    def place(self, name: str) -> str:
        """The path of a file of the staging folder."""
        return storage.join(self.staging, name)

    def write(self) -> None:
        """Write `job.json`."""
        storage.write(self.place(JOB_FILE), self._to_json())

    @classmethod
    def read(cls, staging: str) -> Job:
        """The job of a staging folder.

        Raises:
            FileNotFoundError: There is none.
            ValueError: `job.json` is damaged.
        """
        path = storage.join(staging, JOB_FILE)
        data = storage.read(path)
        with reading(path, _EXPECTED):
            fields = json.loads(data)
            settings = _from_json(JobSettings, fields["settings"])
            layout = _from_json(CodeLayout, fields["layout"])
            fields |= {"staging": staging, "settings": settings, "layout": layout}
            return cls(**fields)

    def _to_json(self) -> bytes:
        fields = dataclasses.asdict(self)
        del fields["staging"]
        return (json.dumps(fields, indent=1) + "\n").encode()


def _from_json(kind: Any, fields: dict[str, Any]) -> Any:
    require_types(fields, typing.get_type_hints(kind))
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})
