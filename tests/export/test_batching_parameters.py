"""Batching parameters as TensorFlow Serving writes and reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfpqn.export.interface.batching_parameters import BatchingParameters

numbers = st.integers(1, 2**31 - 1)
sizes = st.lists(st.integers(1, 500), unique=True, max_size=5).map(sorted).map(tuple)


@given(numbers, numbers, numbers, numbers, sizes, st.booleans())
def test_what_is_written_is_read_back(
    tmp_path_factory, batch_size, timeout, enqueued, threads, allowed, pads
):
    batch_size = allowed[-1] if allowed else batch_size
    given_ = BatchingParameters(batch_size, timeout, enqueued, threads, allowed, pads)
    path = tmp_path_factory.mktemp("batching") / "batching_params.pbtxt"
    path.write_text(given_.to_text())
    assert BatchingParameters.read(path) == given_


def test_a_file_in_the_style_of_the_servers_documentation_is_read(tmp_path):
    path = tmp_path / "batching.txt"
    path.write_text(
        "# as in the batching guide\nmax_batch_size { value: 128 }\n"
        'batch_timeout_micros { value: 0 }\nthread_pool_name { value: "mine" }\n'
        "allowed_batch_sizes : 32\nallowed_batch_sizes : 128\n"
    )
    found = BatchingParameters.read(path)
    assert found == BatchingParameters(128, 0, allowed_batch_sizes=(32, 128))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size: 5", "text proto like"),
        ("\0\1", "text proto like"),
        ("max_batch_size { value: 0 }", "max_batch_size must be in 1"),
        ("num_batch_threads { value: -1 }", "num_batch_threads must be in 1"),
        ("allowed_batch_sizes: 3 allowed_batch_sizes: 2", "allowed_batch_sizes must ascend"),
        ("allowed_batch_sizes: 3", "end with max_batch_size 64"),
    ],
)
def test_what_a_server_could_not_use_is_refused(tmp_path, text, message):
    path = tmp_path / "batching.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        BatchingParameters.read(path)
