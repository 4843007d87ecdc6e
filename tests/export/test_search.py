"""Laws of the search in the graph: it finds what a full sort finds, in blocks of any size."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tfpqn.export.search.neighbours import FLOOR_SCORE, NO_POSITION
from tfpqn.export.search.scan import search_codes
from tfpqn.ops import adc_scores, code_dtype

CODE_DTYPES = {2: "uint8", 256: "uint8", 257: "uint16", 2**16: "uint16", 2**16 + 1: "int32"}
BLOCKS = (1, 64, 10_000)
TOP_KS = (3, 100)
# With many items most groups are left aside.
sizes = st.one_of(st.integers(0, 150), st.integers(600, 2_000))


def sort_all(tables: np.ndarray, codes: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and positions `[queries, top_k]` by brute force: all scores, a stable sort."""
    scores = np.zeros((len(tables), len(codes)), np.float32)
    for position in range(codes.shape[1]):
        scores += tables[:, position][:, codes[:, position]]
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    best = np.take_along_axis(scores, order, axis=1)
    lack = [(0, 0), (0, top_k - order.shape[1])]
    return (
        np.pad(best, lack, constant_values=np.float32(FLOOR_SCORE)),
        np.pad(order, lack, constant_values=NO_POSITION),
    )


@cache
def traced(code_length: int, num_codewords: int, top_k: int, rows_per_block: int) -> Any:
    """The search as it is served: a graph that knows neither queries nor items beforehand."""
    return tf.function(
        lambda tables, codes: search_codes(tables, codes, top_k, rows_per_block=rows_per_block),
        input_signature=[
            tf.TensorSpec([None, code_length, num_codewords], tf.float32),
            tf.TensorSpec([code_length, None], code_dtype(num_codewords)),
        ],
    )


def search(
    tables: np.ndarray, codes: np.ndarray, top_k: int, rows_per_block: int
) -> tuple[np.ndarray, np.ndarray]:
    function = traced(codes.shape[1], tables.shape[2], top_k, rows_per_block)
    found = function(tables, codes.T.astype(code_dtype(tables.shape[2])))
    assert (found.scores.dtype, found.positions.dtype) == (tf.float32, tf.int32)
    return found.scores.numpy(), found.positions.numpy()


def draw_collection(
    seed: int, num_queries: int, num_items: int, code_length: int = 3, num_codewords: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    # Multiples of 1/1024: float32 holds their sums exactly, in whatever order they are added.
    tables = rng.integers(-4096, 4096, (num_queries, code_length, num_codewords)) / 1024
    return tables.astype(np.float32), rng.integers(0, num_codewords, (num_items, code_length))


def assert_found(found: Any, expected: Any) -> None:
    """To the last bit."""
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0], strict=True)


@given(
    seed=st.integers(0, 2**32 - 1),
    # One query, some and many are scored in three ways.
    num_queries=st.sampled_from([0, 1, 2, 4, 33]),
    num_items=sizes,
    code_length=st.sampled_from([1, 4]),
    num_values=st.sampled_from([1, 2, 3, 10_000]),
    top_k=st.sampled_from(TOP_KS),
    rows_per_block=st.sampled_from(BLOCKS),
)
def test_search_finds_what_a_stable_sort_of_all_scores_finds(
    seed, num_queries, num_items, code_length, num_values, top_k, rows_per_block
):
    tables, codes = draw_collection(seed, num_queries, num_items, code_length)
    if num_values < 10:
        # One to three different entries, -0.0 among them, which equals 0.0: many scores are equal.
        tables = np.float32([-0.0, 1.0, -1.0])[np.abs(tables * 1000).astype(int) % num_values]
    found = search(tables, codes, top_k, rows_per_block)
    assert_found(found, sort_all(tables, codes, top_k))


@pytest.mark.parametrize("num_codewords", CODE_DTYPES)
def test_codes_of_every_dtype_are_found_to_their_last_value(num_codewords):
    assert code_dtype(num_codewords) == CODE_DTYPES[num_codewords]
    tables, codes = draw_collection(1, 2, 90, 2, num_codewords)
    codes[0] = num_codewords - 1
    tables[:, :, -1] = tables.max() + 1
    found = search(tables, codes, 3, 64)
    assert_found(found, sort_all(tables, codes, 3))
    assert found[1][:, 0].tolist() == [0, 0]


def test_scores_are_those_that_evaluation_ranks_by(rng):
    """Also where the sum depends on the order: it is that of the code positions."""
    _, codes = draw_collection(3, 4, 90)
    tables = rng.normal(size=(4, 3, 8)).astype(np.float32)
    scores, positions = search(tables, codes, 3, 64)
    expected = np.take_along_axis(np.asarray(adc_scores(tables, codes)), positions, axis=1)
    np.testing.assert_array_equal(scores, expected)


def largest_temporary(num_items: int, rows_per_block: int) -> int:
    """Most elements of any tensor that a search makes, the collection itself left aside."""
    tables, codes = draw_collection(5, 2, num_items)
    metadata = tf.compat.v1.RunMetadata()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variable = tf.Variable(codes.T.astype("uint8"))
        # Fed, so that nothing can be computed before the search.
        fed = tf.compat.v1.placeholder(tf.float32, tables.shape)
        found = search_codes(fed, variable, 3, rows_per_block=rows_per_block)
        session.run(tf.compat.v1.global_variables_initializer())
        options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
        session.run(found, {fed: tables}, options=options, run_metadata=metadata)
    sizes = {}
    for device in metadata.step_stats.dev_stats:
        for node in device.node_stats:
            for output in node.output:
                tensor = output.tensor_description
                shape = tuple(dim.size for dim in tensor.shape.dim)
                sizes[tf.as_dtype(tensor.dtype).name, shape] = int(np.prod(shape))
    assert sizes.pop(("uint8", codes.T.shape)), "the trace does not show what the search reads"
    return max(sizes.values())


def test_temporary_memory_grows_with_the_block_but_not_with_the_collection():
    # Three code positions of the 3 + 8 groups of 32 items that are scored again.
    assert largest_temporary(50_000, 100) == largest_temporary(1_000, 100) == 3 * 11 * 32
    assert largest_temporary(50_000, 1_000) >= 2_000
