"""Prometheus metrics under TensorFlow Serving's names, in a registry of the server's own.

`:tensorflow:serving:request_count` and `:tensorflow:serving:request_latency` (microseconds) are
those of the stock server. Its counters do not end in `_total`, which prometheus_client would add;
so the count is written as a metric without a type.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

__all__ = ["Metrics"]

_LATENCY_BUCKETS = tuple(round(10 * 1.8**power, 3) for power in range(33))
_BATCH_BUCKETS = tuple(2**power for power in range(13))


class _RequestCount(Collector):
    """Requests by model and status."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def collect(self) -> Iterator[Metric]:
        name = ":tensorflow:serving:request_count"
        metric = Metric(name, "Requests by model and status.", "unknown")
        for (model_name, status), count in list(self.counts.items()):
            metric.add_sample(name, {"model_name": model_name, "status": status}, count)
        yield metric


class Metrics:
    """What the server counts.

    Args:
        model_name: The model that is served; requests for others are counted under no name.
    """

    def __init__(self, model_name: str) -> None:
        self._model_name = model_name
        self._registry = CollectorRegistry()
        self._request_count = _RequestCount()
        self._registry.register(self._request_count)
        latency = Histogram(
            ":tensorflow:serving:request_latency",
            "Time from a request's arrival to its answer, in microseconds.",
            ["model_name", "API", "entrypoint"],
            registry=self._registry,
            buckets=_LATENCY_BUCKETS,
        )
        self._latency = {
            entrypoint: latency.labels(model_name, "Predict", entrypoint)
            for entrypoint in ("GRPC", "REST")
        }
        self._batch_size = Histogram(
            ":tensorflow:serving:batching_session:processed_batch_size",
            "Rows of the batches that ran, without padding.",
            registry=self._registry,
            buckets=_BATCH_BUCKETS,
        )
        self._versions = Gauge(
            ":tensorflow:serving:available_versions",
            "Number of versions that are available.",
            registry=self._registry,
        )
        self._latest = Gauge(
            ":tensorflow:serving:latest_version",
            "Number of the newest version that is available; 0 if none.",
            registry=self._registry,
        )

    def count_request(self, entrypoint: str, model_name: str, status: str, seconds: float) -> None:
        """Count a request for Predict, through "GRPC" or "REST"."""
        known = model_name if model_name == self._model_name else ""
        self._request_count.counts[known, status] += 1
        self._latency[entrypoint].observe(seconds * 1e6)

    def count_batch(self, rows: int) -> None:
        """Count a batch that runs."""
        self._batch_size.observe(rows)

    def show_versions(self, numbers: list[int]) -> None:
        """Say which versions are available."""
        self._versions.set(len(numbers))
        self._latest.set(max(numbers, default=0))

    def write(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
