"""The application object: ``create_app(settings)`` builds every part when it starts and closes it when it stops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import Depends, FastAPI

from app.access import guard
from app.browser import SecurityHeaders, allow_origins, install_docs
from app.compute import Compute
from app.hot import HotPath
from app.lifecycle import Lifecycle
from app.logs import get_logger
from app.metrics import Metrics
from app.middleware import RawClassPaths, RequestContext
from app.openapi import install_openapi
from app.problems import install_handlers
from app.room import Room
from app.routes import bulk, classes, console, galleries, models, recognize, system
from app.service import open_service
from app.settings import Settings, load_settings, unknown_variables
from app.tracing import TELEMETRY

log = get_logger(__name__)

_DESCRIPTION = "Recognise symbols, characters, parts, logos or faces from one example each."


def create_app(settings: Settings | None = None, compute: Compute | None = None) -> FastAPI:
    """The ASGI application. Without `settings` they are read from the environment (SettingsError when one is wrong).

    It computes in this process, unless `compute` says otherwise. Nothing is opened until the server starts the
    application's lifespan.
    """
    settings = settings or load_settings()
    metrics, lifecycle = Metrics(), Lifecycle()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        _warn_of_typos()
        async with open_service(settings, metrics, lifecycle, compute) as service:
            app.state.service = service
            facts = {
                "model": service.recognizer.model_id,
                "device": service.embedder.device,
                "engine": service.embedder.engine,
            }
            log.info("started", url=getattr(app.state, "url", None), home=str(settings.home), **facts)
            yield
            log.info("stopping")

    app = FastAPI(
        title="oneshot",
        version=version("oneshot"),
        summary=_DESCRIPTION,
        lifespan=lifespan,
        telemetry=TELEMETRY,
        redirect_slashes=False,
        dependencies=[Depends(guard)],
        docs_url=None,
        redoc_url=None,
    )
    app.state.lifecycle, app.state.upload_timeout = lifecycle, settings.upload_timeout
    app.state.room = Room(settings.max_pending_bytes)
    for module in (recognize, bulk, classes, galleries, models, system, console):
        app.include_router(module.router)
    install_handlers(app)
    install_openapi(app)
    install_docs(app)
    app.add_middleware(HotPath)  # innermost: all that surrounds a request surrounds these too
    app.add_middleware(RawClassPaths)
    app.add_middleware(RequestContext, metrics=metrics, lifecycle=lifecycle, seconds=settings.request_timeout)
    app.add_middleware(SecurityHeaders)
    allow_origins(app, settings.cors_origins)
    return app


def _warn_of_typos() -> None:
    for name, nearest in unknown_variables().items():
        log.warning("unknown_setting", variable=name, did_you_mean=nearest)
