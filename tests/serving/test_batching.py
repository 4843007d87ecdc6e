"""The batcher alone, with models that are plain functions."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfpqn.export.client import ServingError
from tfpqn.export.interface.batching_parameters import BatchingParameters
from tfpqn.export.server.batching import QUEUE_FULL, Batcher, run_merged

FOREVER = 10**9


class Double:
    """A version that doubles, refuses negative numbers, and remembers how it was called."""

    def __init__(self):
        self.sizes = []

    def run(self, signature_name, arrays):
        self.sizes.append(len(arrays["x"]))
        if (arrays["x"] < 0).any():
            raise ValueError("negative")
        return {"y": arrays["x"] * 2}


def rows(number, value=1.0, width=2):
    return {"x": np.full((number, width), value)}


def with_batcher(test, **parameters):
    """Run a coroutine function of a call of the batcher, its version, and an event to hold it."""

    async def run():
        may_run = asyncio.Event()
        may_run.set()

        async def run_in_thread(call):
            await may_run.wait()
            return call()

        batcher = Batcher(BatchingParameters(**parameters), run_in_thread)
        version = Double()

        async def ask(arrays, signature="s"):
            """A task that is on its way."""
            asked = batcher.run(version, signature, arrays, len(arrays["x"]))
            task = asyncio.ensure_future(asked)
            await asyncio.sleep(0.01)
            return task

        await asyncio.wait_for(test(ask, version, may_run), 60)
        assert not batcher._open and not batcher._waiting

    asyncio.run(run())


def test_requests_that_fill_a_batch_run_together_at_once():
    async def test(ask, version, may_run):
        answers = await asyncio.gather(*[await ask(rows(2, value)) for value in range(4)])
        for value, answer in enumerate(answers):
            np.testing.assert_array_equal(answer["y"], np.full((2, 2), 2.0 * value))
        assert version.sizes == [8]

    with_batcher(test, max_batch_size=8, batch_timeout_micros=FOREVER)


def test_other_signatures_and_other_forms_never_meet_and_run_after_the_timeout():
    async def test(ask, version, may_run):
        asked = [await ask(rows(1)), await ask(rows(1), "t"), await ask(rows(1, width=3))]
        await asyncio.gather(*asked)
        assert version.sizes == [1, 1, 1]

    with_batcher(test, max_batch_size=8, batch_timeout_micros=100_000)


def test_more_batches_than_may_wait_are_refused_as_tensorflow_serving_does():
    async def test(ask, version, may_run):
        may_run.clear()
        asked = [await ask(rows(2)) for _ in range(4)]
        with pytest.raises(ServingError, match=f"UNAVAILABLE: {QUEUE_FULL}"):
            await (await ask(rows(2)))
        may_run.set()
        await asyncio.gather(*asked)
        assert version.sizes == [2] * 4

    waiting = {"max_enqueued_batches": 3, "num_batch_threads": 1}
    with_batcher(test, max_batch_size=2, batch_timeout_micros=FOREVER, **waiting)


def test_a_batch_goes_on_filling_until_a_thread_is_free():
    async def test(ask, version, may_run):
        may_run.clear()
        asked = [await ask(rows(number)) for number in (8, 1, 1, 1)]
        may_run.set()
        await asyncio.gather(*asked)
        assert version.sizes == [8, 3]

    with_batcher(test, max_batch_size=8, batch_timeout_micros=1000, num_batch_threads=1)


def test_a_request_that_is_cancelled_leaves_the_others_their_answers():
    async def test(ask, version, may_run):
        may_run.clear()
        gone, stays = await ask(rows(2)), await ask(rows(2, 2.0))
        gone.cancel()
        may_run.set()
        np.testing.assert_array_equal((await stays)["y"], np.full((2, 2), 4.0))

    with_batcher(test, max_batch_size=4, batch_timeout_micros=FOREVER)


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    bad=st.sets(st.integers(0, 5)),
)
def test_merged_requests_are_answered_as_each_alone(sizes, bad):
    requests = [rows(size, -1.0 if number in bad else number) for number, size in enumerate(sizes)]
    answers = run_merged(lambda arrays: Double().run("s", arrays), requests, sizes)
    assert len(answers) == len(requests)
    for number, (request, answer) in enumerate(zip(requests, answers, strict=True)):
        if number in bad:
            assert isinstance(answer, ValueError)
        else:
            np.testing.assert_array_equal(answer["y"], request["x"] * 2)
