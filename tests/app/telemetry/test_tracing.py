"""Request traces: the spans of a request under its request id, and only if tracing is enabled."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from testing.processes import Server, enroll
from testing.served import Running

PARENT = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def exporter() -> Iterator[InMemorySpanExporter]:
    """The official in-memory exporter, behind the process's only tracer provider."""
    made = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(made))
    trace.set_tracer_provider(provider)
    yield made
    provider.shutdown()


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> InMemorySpanExporter:
    exporter.clear()
    return exporter


def tree(exporter: InMemorySpanExporter, root: str) -> dict[str, list[ReadableSpan]]:
    """The finished spans in the trace of `root`, by name; checks that none starts before or ends after it."""
    found = exporter.get_finished_spans()
    [top] = [span for span in found if span.name == root]
    assert top.context is not None
    by_name: dict[str, list[ReadableSpan]] = {}
    for span in found:
        if span.context is not None and span.context.trace_id == top.context.trace_id:
            by_name.setdefault(span.name, []).append(span)
            assert (span.start_time or 0) >= (top.start_time or 0) - 1_000_000
            assert (span.end_time or 0) <= (top.end_time or 0) + 1_000_000
    return by_name


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_classification_is_traced_from_the_upload_to_the_search(spans, serve, images: list[bytes]):
    with serve() as server:
        server.enroll("a", images[0])
        spans.clear()
        answer = server.client.post(
            "/classify",
            files={"image": ("x", images[0])},
            headers={"X-Request-ID": "mine-1", "traceparent": f"00-{PARENT}-00f067aa0ba902b7-01"},
        )
        assert answer.status_code == 200
    found = tree(spans, "POST /classify")
    assert set(found) == {"POST /classify", "decode", "queue", "forward", "search", *found.keys() & {"store"}}
    [root], [decode], [queue], [forward], [search] = (
        found[name] for name in ("POST /classify", "decode", "queue", "forward", "search")
    )
    assert attributes(root)["oneshot.request_id"] == "mine-1"
    assert attributes(root)["http.response.status_code"] == 200
    assert root.context is not None
    assert trace.format_trace_id(root.context.trace_id) == PARENT, "it goes on with the client's trace"
    assert attributes(forward) == {"oneshot.batch_images": 1}
    assert attributes(queue) == {"oneshot.images": 1}
    times = [decode.end_time, queue.start_time, queue.end_time, forward.start_time, forward.end_time, search.start_time]
    assert times == sorted(times, key=lambda each: each or 0)
    assert search.parent is not None
    assert search.parent.span_id in {span.context.span_id for spans in found.values() for span in spans if span.context}


def test_an_enrolment_ends_in_the_store_and_a_bad_image_in_decode(spans, serve, images: list[bytes]):
    with serve() as server:
        server.enroll("a", images[0])
        assert "store" in tree(spans, "POST /enroll")
        spans.clear()
        assert server.classify(b"no image").status_code == 415
    found = tree(spans, "POST /classify")
    assert not found["decode"][0].status.is_ok
    assert "forward" not in found


def test_requests_that_share_a_forward_pass_each_have_it(spans, served: Running, images: list[bytes]):
    files = [("image", ("x", image)) for image in images[:5]]
    assert served.client.post("/embed", files=files).status_code == 200
    found = tree(spans, "POST /embed")
    assert len(found["decode"]) == 1  # small images share one decoding job
    assert sum(attributes(span)["oneshot.batch_images"] for span in found["forward"]) >= 5


def test_probes_are_not_traced(spans, served: Running):
    for path in ("/livez", "/readyz", "/metrics"):
        assert served.client.get(path).status_code == 200
    assert spans.get_finished_spans() == ()


def test_the_log_names_the_trace(spans, served: Running, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("INFO", logger="app"):
        served.client.get("/model")
    [root] = tree(spans, "GET /model")["GET /model"]
    assert root.context is not None
    entries: list[logging.LogRecord] = []
    while not entries:  # written after the answer; bounded by the test's timeout
        entries = [record for record in caplog.records if record.msg == "request"]
        time.sleep(0.01)
    [entry] = entries
    assert entry.__dict__["trace_id"] == trace.format_trace_id(root.context.trace_id)


class Receiver(BaseHTTPRequestHandler):
    """A minimal collector that receives OTLP over HTTP."""

    spans: ClassVar[Counter[str]] = Counter()
    services: ClassVar[set[str]] = set()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") is None and self.path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                named = {each.key: each.value.string_value for each in resource.resource.attributes}
                self.services.add(named["service.name"])
                self.spans.update(span.name for scope in resource.scope_spans for span in scope.spans)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_words: object) -> None:
        """Log nothing."""


@pytest.fixture
def receiver() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_traces_reach_a_collector_when_the_environment_names_one(
    tmp_path: Path, artifact: Path, images: list[bytes], receiver: str
):
    with Server(tmp_path / "home", artifact, OTEL_EXPORTER_OTLP_ENDPOINT=receiver) as server:
        with httpx.Client(base_url=server.ready().url, timeout=30) as client:
            assert enroll(client, "a", images[0]).status_code == 201
        assert server.stop() == 0, "and what is not sent yet is sent now"
    assert Receiver.spans["POST /enroll"] == 1
    assert {"decode", "queue", "forward", "store"} <= set(Receiver.spans)
    assert Receiver.services == {"oneshot"}


@pytest.mark.slow
def test_a_collector_that_is_away_harms_nobody(tmp_path: Path, artifact: Path, images: list[bytes]):
    with Server(tmp_path / "home", artifact, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as server:
        with httpx.Client(base_url=server.ready().url, timeout=30) as client:
            assert enroll(client, "a", images[0]).status_code == 201
        assert server.stop() == 0
