"""Prometheus metrics of the service: base units, `_total` on counters, one registry per application.

With several workers, each writes its own values where all can read them (`app.telemetry.worker_metrics`). A gauge
declares how those combine: as the sum over live workers, or as the latest value.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from app.telemetry.worker_metrics import all_workers

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TENTHS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_FACTS = ("version", "model", "device", "engine")


class Metrics:
    """All metrics of one application, in a registry of their own, so that tests can hold several applications."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "oneshot_requests", "Answers by route and status.", ["method", "route", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "oneshot_request_duration_seconds",
            "Time from the request line to the last byte of the answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.rejections = Counter(
            "oneshot_rejections", "Requests answered with a problem, by its slug.", ["reason"], registry=registry
        )
        self.batch_size = Histogram(
            "oneshot_batch_size_images", "Images in one forward pass.", buckets=_BATCHES, registry=registry
        )
        self.queue_wait_seconds = Histogram(
            "oneshot_queue_wait_seconds",
            "Time that a request's images waited for the network.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.inference_seconds = Histogram(
            "oneshot_inference_seconds", "Time of one forward pass.", buckets=_SECONDS, registry=registry
        )
        self._add_gauges()
        self.classifications = Counter(
            "oneshot_classifications", "Classified images by outcome: known, unknown.", ["outcome"], registry=registry
        )
        self.similarity = Histogram(
            "oneshot_best_similarity_ratio",
            "Similarity of the best candidate of a classified image.",
            buckets=_TENTHS,
            registry=registry,
        )

    def _add_gauges(self) -> None:
        self.queue_depth = Gauge(
            "oneshot_queue_depth_images",
            "Images that wait for the network.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self.galleries = self._latest("oneshot_galleries", "Galleries.")
        self.classes = self._latest("oneshot_gallery_classes", "Classes in all galleries.")
        self.largest = self._latest("oneshot_gallery_classes_max", "Classes in the largest gallery.")
        self.view_age = self._latest(
            "oneshot_view_age_seconds", "Time since the store was last heard of while it is away, else 0."
        )
        self.change_shots = self._latest(
            "oneshot_model_change_shots", "Images in galleries that have another model yet."
        )
        self.change_done = self._latest(
            "oneshot_model_change_done_shots", "Those of them that are embedded by the new one."
        )
        self.change_held = self._latest(
            "oneshot_model_change_held_galleries", "Galleries whose change of the model does not get on."
        )
        self._info = Gauge(
            "oneshot_info",
            "What is running.",
            _FACTS,
            multiprocess_mode="livemax",
            registry=self.registry,
        )

    def _latest(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, multiprocess_mode="livemostrecent", registry=self.registry)

    def describe(self, **facts: str) -> None:
        """Set the version, model, device and engine as labels of ``oneshot_info``."""
        self._info.labels(*(facts.get(name, "") for name in _FACTS)).set(1)

    def observe_decision(self, known: bool, similarity: float | None) -> None:
        """Count a classification. `similarity` is that of the best candidate, None if there is none."""
        self.classifications.labels("known" if known else "unknown").inc()
        if similarity is not None:
            self.similarity.observe(similarity)

    def set_galleries(self, sizes: dict[str, int]) -> None:
        """Set the sizes of the galleries (classes in each). Their names are not labels: there may be very many."""
        self.galleries.set(len(sizes))
        self.classes.set(sum(sizes.values()))
        self.largest.set(max(sizes.values(), default=0))

    def render(self) -> bytes:
        """All metrics in the text exposition format, over all workers if there are several."""
        return generate_latest(all_workers() or self.registry)
