"""The Beam pipeline: one element is the number of a unit."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.shared import Shared

from tfpqn.beam.job import Job
from tfpqn.beam.worker import Worker

# Beam's own `DirectRunner` first downloads a program (Prism) and starts it. This is the runner of
# Python that it falls back to without a network.
_DIRECT_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


class EncodeUnits(beam.PTransform):
    """Codes all units of a job; gives the number of each, once its part is written.

    Its counters, in the namespace `tfpqn`: `items`, `broken`, `batches` and `milliseconds` of the
    units that were coded, and `parts_found` of those that were there, from a job before a crash.

    Args:
        staging: The folder of a job, from `prepare_job`.
    """

    def __init__(self, staging: str) -> None:
        super().__init__()
        self.staging = staging

    def expand(self, begin: Any) -> Any:
        numbers = range(Job.read(self.staging).num_units)
        return (
            begin
            | "Units" >> beam.Create(numbers, reshuffle=False)
            # Or one worker would get them all, fused with their making.
            | "Spread" >> beam.Reshuffle()
            | "Code" >> beam.ParDo(_EncodeUnit(self.staging))
        )


class _EncodeUnit(beam.DoFn):
    """Codes the unit of a number. The network is loaded once a process."""

    def __init__(self, staging: str) -> None:
        self.staging = staging
        self._shared = Shared()
        names = ("items", "broken", "batches", "milliseconds", "parts_found")
        self._counters = {name: Metrics.counter("tfpqn", name) for name in names}

    def setup(self) -> None:
        self._worker = self._shared.acquire(functools.partial(Worker, self.staging), self.staging)

    def process(self, number: int) -> Any:
        receipt, was_there = self._worker.code(number)
        if was_there:
            self._counters["parts_found"].inc()
        else:
            self._counters["items"].inc(receipt.part.rows)
            self._counters["broken"].inc(len(receipt.broken))
            self._counters["batches"].inc(receipt.num_batches)
            self._counters["milliseconds"].inc(round(1000 * receipt.seconds))
        yield number


def open_pipeline(runner: str = "DirectRunner", options: Sequence[str] = ()) -> beam.Pipeline:
    """An empty pipeline.

    Args:
        runner: Name of a runner of Beam; `DirectRunner` is this process.
        options: Pipeline options, such as `--flink_master=host:8081`.

    Raises:
        ValueError: There is no such runner, or it does not take the options.
    """
    given = PipelineOptions(list(options))
    if runner == "DirectRunner":  # Others know options that this process does not.
        runner = _DIRECT_RUNNER
        unknown = given.get_all_options(retain_unknown_options=True).keys()
        unknown -= given.get_all_options().keys()
        if unknown:
            raise ValueError(
                "Options after a lone -- must be pipeline options of Beam. "
                f"Received: {', '.join(sorted(unknown))}"
            )
    return beam.Pipeline(runner, given)


def run_pipeline(job: Job, pipeline: beam.Pipeline | None = None) -> dict[str, int]:
    """Code all units of a job that have no part yet, and wait until that is done.

    Args:
        job: From `prepare_job`.
        pipeline: From `open_pipeline`; the default is one of this process.

    Returns:
        The counters of `EncodeUnits`, where the runner has them.
    """
    pipeline = pipeline or open_pipeline()
    pipeline | EncodeUnits(job.staging)
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query()["counters"]
    return {
        counter.key.metric.name: counter.result
        for counter in counters
        if counter.key.metric.namespace == "tfpqn"
    }
