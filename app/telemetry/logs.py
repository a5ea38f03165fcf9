"""Logging: structlog in front, the standard library behind, one entry a line on stderr."""

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
    """A logger that hands its entries, fields and all, to the standard library's logger of this name.

    It needs no configuration of structlog, whose defaults would print the local variables (images, vectors) of every
    function on the way to an error.
    """
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.render_to_log_kwargs,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    ).bind()  # else it would be made anew for each entry
    return logger


def configure_logging(level: str = "info", style: Literal["json", "console"] = "json") -> None:
    """Send everything that is logged, by this code or by a library, to stderr in one style.

    Called by the command line only: an application object that is embedded elsewhere leaves its host's logging alone.
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
    # what libraries tell below "warning" is for their own developers
    root.setLevel(max(logging.getLevelNamesMapping()[level.upper()], logging.WARNING))
    logging.getLogger("app").setLevel(level.upper())
    logging.captureWarnings(True)
    # no entry tells them, and to find them out takes longer than the rest
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _renderers(style: Literal["json", "console"]) -> list[Processor]:
    if style == "console":
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_to_json)]


def _to_json(entry: EventDict, **options: Any) -> str:
    # json.dumps would make an encoder for each entry
    return _encoder(options["default"]).encode(entry)


@cache
def _encoder(default: Callable[[object], object]) -> json.JSONEncoder:
    return json.JSONEncoder(ensure_ascii=False, default=default)


def _drop_colour_twin(_logger: object, _method: str, event: EventDict) -> EventDict:
    # uvicorn sends each message a second time with terminal colours in it
    event.pop("color_message", None)
    return event
