"""Logging: structlog in front, the standard library behind, one entry a line on stderr."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import Processor

#: Libraries that tell at level "info" what only their own developers want to know.
_CHATTY = ("alembic", "faiss", "PIL")


def configure_logging(level: str = "info", style: Literal["json", "console"] = "json") -> None:
    """Send everything that is logged, by this code or by a library, to stderr in one style.

    Called by the command line only: an application object that is embedded elsewhere leaves its host's logging alone.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[*_tail(style)]))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for library in _CHATTY:
        logging.getLogger(library).setLevel(max(root.level, logging.WARNING) if level != "debug" else logging.NOTSET)
    logging.captureWarnings(True)


def _tail(style: Literal["json", "console"]) -> list[Processor]:
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if style == "console":
        return [remove, _drop_colour_twin, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    return [
        remove,
        _drop_colour_twin,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(ensure_ascii=False),
    ]


def _drop_colour_twin(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    # uvicorn sends each message a second time with terminal colours in it
    event.pop("color_message", None)
    return event
