"""Laws of the flat scan: codes of every width, the scores of evaluation, bounded memory."""

import numpy as np
import pytest
import tensorflow as tf

from tfpqn.export.search import scan
from tfpqn.export.search.scoring import pack_planes, score_one, score_positions
from tfpqn.ops import adc_scores, code_dtype

CODE_DTYPES = {2: "uint8", 256: "uint8", 257: "uint16", 2**16: "uint16", 2**16 + 1: "int32"}


@pytest.mark.parametrize("num_codewords", CODE_DTYPES)
def test_codes_of_every_dtype_are_found_to_their_last_value(rng, num_codewords):
    assert code_dtype(num_codewords) == CODE_DTYPES[num_codewords]
    codes = rng.integers(0, num_codewords, (90, 2)).astype(code_dtype(num_codewords))
    codes[7] = num_codewords - 1
    tables = rng.random((2, 2, num_codewords)).astype(np.float32)
    tables[:, :, -1] = 2
    found = scan.search_codes(tf.constant(tables), tf.constant(pack_planes(codes)), len(codes), 3)
    scores = tables[0][:, codes[:, 0]] + tables[1][:, codes[:, 1]]
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(found.positions, expected)
    assert (codes[expected[:, 0]] == num_codewords - 1).all()


def test_scores_are_those_that_evaluation_ranks_by(rng):
    """Also where the sum depends on the order: it is that of the code positions."""
    codes = rng.integers(0, 8, (90, 3)).astype(np.uint8)
    tables = rng.normal(size=(4, 3, 8)).astype(np.float32)
    scores, positions = scan.search_codes(
        tf.constant(tables.transpose(1, 0, 2)), tf.constant(pack_planes(codes)), len(codes), 3
    )
    expected = np.take_along_axis(np.asarray(adc_scores(tables, codes)), positions.numpy(), axis=1)
    np.testing.assert_array_equal(scores, expected)


@pytest.mark.parametrize("code_length", [8, 17])
def test_sums_of_a_graph_go_in_the_order_of_the_positions(rng, code_length):
    """Graph optimizers sort what is added by name, unless it is taken away."""
    codes = rng.integers(0, 256, (200, code_length)).astype(np.uint8)
    tables = rng.normal(size=(code_length, 256)).astype(np.float32)
    columns = tf.constant(codes.T[:, :, np.newaxis], tf.int32)

    @tf.function
    def score(tables):
        positions = [score_positions(2 * tables, tf.unstack(columns)) for _ in range(2)]
        return [score_one(tables, tf.constant(pack_planes(codes)))[:200], positions[-1] / 2]

    expected = sum(tables[position][codes[:, position]] for position in range(code_length))
    for scores in score(tf.constant(tables)):
        np.testing.assert_array_equal(scores, expected)


def largest_temporary(num_items, num_queries):
    """Most elements of any tensor that a search makes, the collection itself left aside."""
    metadata = tf.compat.v1.RunMetadata()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        planes = tf.Variable(pack_planes(np.zeros([num_items, 3], np.uint8)))
        # Fed, so that nothing can be computed before the search.
        tables = tf.compat.v1.placeholder(tf.float32, [3, num_queries, 8])
        found = scan.search_codes(tables, planes, num_items, 3)
        session.run(tf.compat.v1.global_variables_initializer())
        options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
        feeds = {tables: np.ones([3, num_queries, 8])}
        session.run(found, feeds, options=options, run_metadata=metadata)
    sizes = {}
    for device in metadata.step_stats.dev_stats:
        for node in device.node_stats:
            for output in node.output:
                shape = tuple(dim.size for dim in output.tensor_description.shape.dim)
                sizes[shape] = int(np.prod(shape))
    rows = planes.shape[1]
    read = [sizes.pop(shape, 0) for shape in ((3, rows), (3 * rows,), (3, rows // 32, 32))]
    assert sum(read), "what the search reads"
    return max(sizes.values())


def test_temporary_memory_grows_with_the_block_but_not_with_the_collection(monkeypatch):
    monkeypatch.setattr(scan, "ROWS_PER_BLOCK", 128)
    monkeypatch.setattr(scan, "ROWS_TOGETHER", 100)
    monkeypatch.setattr(scan, "MANY_QUERIES", 2)
    # All items of a block are equal, so all are scored again.
    assert largest_temporary(50_000, 1) == largest_temporary(1_000, 1) == 3 * 128
    # Three code positions of the 4 groups of 32 items that are scored again, the last not full.
    assert largest_temporary(50_000, 2) == largest_temporary(1_000, 2) == 3 * 4 * 32
    monkeypatch.setattr(scan, "ROWS_TOGETHER", 2000)
    assert largest_temporary(50_000, 2) >= 2_000
