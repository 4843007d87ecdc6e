"""Files by their paths on any file system that Beam knows: local ones, gs://, s3://, hdfs://."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from tfpqn.files.atomic import write_file_atomically


def join(folder: str, name: str) -> str:
    """The path of a file in a folder."""
    return f"{folder.rstrip('/')}/{name}"


def is_local(path: str) -> bool:
    """Whether the path is one of the operating system's."""
    return "://" not in path


def exists(path: str) -> bool:
    """Whether there is such a file or folder."""
    return Path(path).exists() if is_local(path) else FileSystems.exists(path)


def state(path: str) -> str:
    """Size and time of change of a file, by which it is told from what replaces it."""
    if is_local(path):
        try:
            status = os.stat(path)
        except OSError:
            return "none"
        return f"{status.st_size} bytes of {status.st_mtime}"
    (found,) = FileSystems.match([path])
    files = [
        f"{file.size_in_bytes} bytes of {file.last_updated_in_seconds}"
        for file in found.metadata_list
    ]
    return ", ".join(files) or "none"


def match(pattern: str) -> list[str]:
    """The files whose paths match a pattern such as `gs://bucket/items-*.tfrecord`, sorted."""
    (found,) = FileSystems.match([pattern])
    return sorted(file.path for file in found.metadata_list)


def open_file(path: str) -> BinaryIO:
    """A file to read and to seek in."""
    if is_local(path):
        return open(path, "rb")
    opened: BinaryIO = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return opened


def read(path: str) -> bytes:
    """All bytes of a file."""
    with open_file(path) as file:
        return file.read()


def write(path: str, data: bytes) -> None:
    """Write a whole file, in place of one that is there: no reader sees half of it."""
    if is_local(path):
        write_file_atomically(path, data)
        return
    # An object store shows only whole files, but HDFS does not.
    partial = f"{path}.partial-{secrets.token_hex(4)}"
    with FileSystems.create(partial, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        file.write(data)
    # HDFS refuses to rename onto a file, such as a part that a crash left without its receipt.
    remove([path])
    FileSystems.rename([partial], [path])


def remove(paths: Iterable[str]) -> None:
    """Remove those of the files that are there."""
    for path in paths:
        if is_local(path):
            Path(path).unlink(missing_ok=True)
        elif exists(path):
            FileSystems.delete([path])


@contextlib.contextmanager
def local_copy(path: str) -> Iterator[Path]:
    """Yields a local file of the same bytes: the file itself where it is local."""
    if is_local(path):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="tfpqn-") as folder:
        copy = Path(folder, Path(path).name)
        copy.write_bytes(read(path))
        yield copy
