"""The coded collection, on disk and in memory; needs numpy and pyarrow, and no network."""

from tfpqn.index.build import add_to_index as add_to_index
from tfpqn.index.build import build_index as build_index
from tfpqn.index.build import network_layout as network_layout
from tfpqn.index.code_index import CodeIndex as CodeIndex
from tfpqn.index.code_index_writer import CodeIndexWriter as CodeIndexWriter
from tfpqn.index.code_layout import CodeLayout as CodeLayout
from tfpqn.index.difference import Difference as Difference
from tfpqn.index.difference import are_in_index as are_in_index
from tfpqn.index.difference import compare_index as compare_index
from tfpqn.index.difference import copy_index as copy_index
from tfpqn.index.manifest import Manifest as Manifest
from tfpqn.index.manifest import describe_index as describe_index
from tfpqn.index.rewriting import Growth as Growth
from tfpqn.index.rewriting import compact_index as compact_index
from tfpqn.index.rewriting import remove_from_index as remove_from_index
from tfpqn.index.rewriting import update_index as update_index
