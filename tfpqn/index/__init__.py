"""The coded collection, on disk and in memory; needs numpy and pyarrow, and no network."""

from tfpqn.index._reading import IndexReport, describe_index
from tfpqn.index.build import add_to_index, build_index, network_layout
from tfpqn.index.code_index import CodeIndex
from tfpqn.index.code_index_writer import CodeIndexWriter
from tfpqn.index.code_layout import CodeLayout
from tfpqn.index.rewriting import (
    Growth,
    compact_index,
    merge_indexes,
    remove_from_index,
    update_index,
)

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
