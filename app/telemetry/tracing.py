"""OpenTelemetry spans of a request. They cost next to nothing when tracing is off.

FastAPI creates the request's span. With the extra `otel` installed, it also sets up the exporter from the standard
OTEL_... variables (`telemetry`). The child spans are `decode`, `queue`, `forward`, `search` and `store`.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import structlog
from fastapi.telemetry import TelemetryConfig
from opentelemetry import context, trace
from opentelemetry.context import Context

_tracer = trace.get_tracer("oneshot")


def telemetry(quiet: frozenset[str]) -> TelemetryConfig:
    """FastAPI's options: spans only (Prometheus has the metrics, structlog the logs), exported as the environment says.

    Requests for the paths in `quiet` have no spans.
    """

    def is_quiet(scope: MutableMapping[str, Any]) -> bool:
        return scope.get("path") in quiet

    return TelemetryConfig(auto_configure=True, metrics=False, logs=False, operation_spans=False, exclude=is_quiet)


def span(name: str, **attributes: str | int) -> AbstractContextManager[object]:
    """A child span of the current request, for the duration of the block. Does nothing outside a traced request."""
    if not trace.get_current_span().is_recording():
        return nullcontext()
    return _tracer.start_as_current_span(name, attributes=_named(attributes), record_exception=False)


def here() -> Context:
    """The current trace context, for `record` in another thread."""
    return context.get_current()


def record(name: str, where: Context, began: int, ended: int, **attributes: str | int) -> None:
    """Add a finished span to a trace. The times are `time.time_ns()`."""
    if trace.get_current_span(where).is_recording():
        _tracer.start_span(name, context=where, start_time=began, attributes=_named(attributes)).end(ended)


def identify(request_id: str) -> None:
    """Put the request's id into its span, and the trace's id into its log entries."""
    current = trace.get_current_span()
    if current.is_recording():
        current.set_attribute("oneshot.request_id", request_id)
        structlog.contextvars.bind_contextvars(trace_id=trace.format_trace_id(current.get_span_context().trace_id))


def _named(attributes: dict[str, str | int]) -> dict[str, str | int]:
    return {f"oneshot.{name}": value for name, value in attributes.items()}
