"""The coded collection, on disk and in memory; needs numpy and pyarrow, and no network."""

from ._reading import IndexReport, describe_index
from .build import add_to_index, build_index, network_layout
from .code_index import CodeIndex
from .code_index_writer import CodeIndexWriter
from .code_layout import CodeLayout
from .rewriting import Growth, compact_index, merge_indexes, remove_from_index, update_index

__all__ = [
    "CodeIndex",
    "CodeIndexWriter",
    "CodeLayout",
    "Growth",
    "IndexReport",
    "add_to_index",
    "build_index",
    "compact_index",
    "describe_index",
    "merge_indexes",
    "network_layout",
    "remove_from_index",
    "update_index",
]
