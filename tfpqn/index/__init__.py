"""The coded collection, on disk and in memory; needs numpy and pyarrow, and no network."""

from ._reading import IndexReport
from .build import build_index, network_layout
from .code_index import CodeIndex
from .code_index_writer import CodeIndexWriter
from .code_layout import CodeLayout

__all__ = [
    "CodeIndex",
    "CodeIndexWriter",
    "CodeLayout",
    "IndexReport",
    "build_index",
    "network_layout",
]
