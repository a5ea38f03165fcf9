"""Logging by structlog through the standard library, one entry per line on stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger that passes its entries, with all fields, to the standard library's logger of this name.

    It does not use structlog's global configuration. The defaults of that print the local variables (images, vectors)
    of every function in a traceback.
    """
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.render_to_log_kwargs,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    ).bind()  # else each entry would create a logger
    return logger


def configure_logging(level: str = "info", style: Literal["json", "console"] = "json") -> None:
    """Send all log entries, of this code and of libraries, to stderr in one style.

    Called by the command line only. An application embedded elsewhere leaves its host's logging alone.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_logger_name,
                structlog.stdlib.add_log_level,
                structlog.stdlib.ExtraAdder(),
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _drop_colour_twin,
                *_renderers(style),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # entries of libraries below "warning" are for their developers
    root.setLevel(max(logging.getLevelNamesMapping()[level.upper()], logging.WARNING))
    logging.getLogger("app").setLevel(level.upper())
    logging.captureWarnings(True)
    # no entry shows these, and collecting them takes longer than the rest
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _renderers(style: Literal["json", "console"]) -> list[Processor]:
    if style == "console":
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_to_json)]


def _to_json(entry: EventDict, **options: Any) -> str:
    # json.dumps would create an encoder for each entry
    return _encoder(options["default"]).encode(entry)


@cache
def _encoder(default: Callable[[object], object]) -> json.JSONEncoder:
    return json.JSONEncoder(ensure_ascii=False, default=default)


def _drop_colour_twin(_logger: object, _method: str, event: EventDict) -> EventDict:
    # uvicorn adds a copy of each message with terminal colours
    event.pop("color_message", None)
    return event
