"""The batcher alone, with models that are plain functions."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfpqn.export.client import ServingError
from tfpqn.export.model.batching_parameters import BatchingParameters
from tfpqn.export.server.batching import QUEUE_FULL, Batcher, run_merged
from tfpqn.export.server.model_version import ModelVersion

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
    """Run a coroutine function of a batcher, a version, and an event that lets batches run."""

    async def run():
        may_run = asyncio.Event()
        may_run.set()

        async def run_in_thread(version, call):
            await may_run.wait()
            return call()

        parameters_ = BatchingParameters(**parameters)
        batcher = Batcher(parameters_, run_in_thread)
        await asyncio.wait_for(test(batcher, Double(), may_run), 60)
        assert not batcher._open and not batcher._waiting

    asyncio.run(run())


def test_requests_that_fill_a_batch_run_together_at_once():
    async def test(batcher, version, may_run):
        calls = [batcher.run(version, "s", rows(2, value), 2) for value in range(4)]
        answers = await asyncio.gather(*calls)
        for value, answer in enumerate(answers):
            np.testing.assert_array_equal(answer["y"], np.full((2, 2), 2.0 * value))
        assert version.sizes == [8]

    with_batcher(test, max_batch_size=8, batch_timeout_micros=FOREVER)


def test_a_batch_that_does_not_fill_runs_after_the_timeout():
    async def test(batcher, version, may_run):
        answer = await batcher.run(version, "s", rows(3), 3)
        assert answer["y"].shape == (3, 2)
        assert version.sizes == [3]

    with_batcher(test, max_batch_size=8, batch_timeout_micros=1000)


def test_other_signatures_and_other_forms_never_meet():
    async def test(batcher, version, may_run):
        await asyncio.gather(
            batcher.run(version, "s", rows(1), 1),
            batcher.run(version, "t", rows(1), 1),
            batcher.run(version, "s", rows(1, width=3), 1),
        )
        assert version.sizes == [1, 1, 1]

    with_batcher(test, max_batch_size=8, batch_timeout_micros=1000)


def test_more_batches_than_may_wait_are_refused_as_tensorflow_serving_does():
    async def test(batcher, version, may_run):
        may_run.clear()
        asked = []
        for _ in range(4):
            asked.append(asyncio.ensure_future(batcher.run(version, "s", rows(2), 2)))
            await asyncio.sleep(0.01)
        with pytest.raises(ServingError, match="UNAVAILABLE") as caught:
            await batcher.run(version, "s", rows(2), 2)
        assert caught.value.message == QUEUE_FULL
        may_run.set()
        await asyncio.gather(*asked)
        assert version.sizes == [2] * 4

    with_batcher(
        test,
        max_batch_size=2,
        batch_timeout_micros=FOREVER,
        max_enqueued_batches=3,
        num_batch_threads=1,
    )


def test_a_batch_goes_on_filling_until_a_thread_is_free():
    async def test(batcher, version, may_run):
        may_run.clear()
        asked = [asyncio.ensure_future(batcher.run(version, "s", rows(8), 8))]
        for _ in range(3):
            await asyncio.sleep(0.01)
            asked.append(asyncio.ensure_future(batcher.run(version, "s", rows(1), 1)))
        await asyncio.sleep(0.01)
        may_run.set()
        await asyncio.gather(*asked)
        assert version.sizes == [8, 3]

    with_batcher(test, max_batch_size=8, batch_timeout_micros=1000, num_batch_threads=1)


def test_a_cancelled_request_leaves_its_batch():
    async def test(batcher, version, may_run):
        gone = asyncio.ensure_future(batcher.run(version, "s", rows(3), 3))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        await asyncio.gather(*[batcher.run(version, "s", rows(4), 4) for _ in range(2)])
        assert version.sizes == [8]

    with_batcher(test, max_batch_size=8, batch_timeout_micros=FOREVER)


def test_a_request_cancelled_while_its_batch_runs_leaves_the_others_their_answers():
    async def test(batcher, version, may_run):
        may_run.clear()
        gone, stays = (
            asyncio.ensure_future(batcher.run(version, "s", rows(2, value), 2)) for value in (1, 2)
        )
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0)
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


def test_outputs_without_the_batch_axis_fail_instead_of_being_cut():
    answers = run_merged(lambda arrays: {"y": np.zeros(3)}, [rows(1), rows(1)], [1, 1])
    assert [type(answer) for answer in answers] == [ServingError, ServingError]


def test_a_version_waits_for_its_last_user():
    async def run():
        version = ModelVersion(1, None)
        with version.in_use():
            with version.in_use():
                waiting = asyncio.ensure_future(version.wait_until_unused())
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not waiting.done()
        await asyncio.wait_for(waiting, 60)

    asyncio.run(run())
