"""The application object. ``create_app(settings)`` builds every part on startup and closes it on shutdown."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from app.api.body.budget import Room
from app.api.browser import SecurityHeaders, allow_origins, install_docs
from app.api.door import add_routes
from app.api.middleware import RawClassPaths, RequestContext
from app.api.openapi import install_openapi
from app.api.origins import OwnPagesOnly
from app.api.policy import paths_where
from app.api.problems import install_handlers
from app.api.routes import bulk, classes, console, galleries, models, recognize, system
from app.errors import StartupError
from app.lifecycle import Lifecycle
from app.pace import PACE, Pace
from app.service.await_store import Startup
from app.service.compute import Compute
from app.service.service import open_service
from app.settings import Settings, load_settings, unknown_variables
from app.telemetry.logs import get_logger
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import telemetry

log = get_logger(__name__)

_ROUTES = [
    route for module in (recognize, bulk, classes, galleries, models, system, console) for route in module.router.routes
]
_DESCRIPTION = "Recognise symbols, characters, parts, logos or faces from one example each."


def create_app(
    settings: Settings | None = None, compute: Compute | None = None, *, wait: bool = False, pace: Pace = PACE
) -> FastAPI:
    """The ASGI application. Without `settings` they are read from the environment (SettingsError for a wrong one).

    It computes in this process unless `compute` is given. Nothing is opened before the server starts the application's
    lifespan. With `wait`, it also starts while the store's database is unavailable: live, but not ready until the
    database answers (`app.service.await_store`).
    """
    settings = settings or load_settings()
    metrics, lifecycle = Metrics(), Lifecycle()
    quiet = paths_where(_ROUTES, lambda policy: policy.quiet)

    app = FastAPI(
        title="oneshot",
        version=version("oneshot"),
        summary=_DESCRIPTION,
        lifespan=_lifespan(settings, metrics, lifecycle, compute, pace, wait=wait and settings.store is not None),
        telemetry=telemetry(quiet),
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.state.lifecycle = lifecycle
    app.state.upload_timeout, app.state.upload_rate = settings.upload_timeout, settings.upload_rate
    app.state.room, app.state.answers = Room(settings.max_pending_bytes), Room(settings.max_pending_bytes, "answered")
    add_routes(app, _ROUTES)
    install_handlers(app)
    install_openapi(app)
    install_docs(app)
    app.add_middleware(RawClassPaths)
    if settings.api_keys == "off":
        probes = paths_where(_ROUTES, lambda policy: policy.is_probe)
        app.add_middleware(OwnPagesOnly, settings=settings, probes=probes)
    seconds = settings.request_timeout
    app.add_middleware(RequestContext, metrics=metrics, lifecycle=lifecycle, seconds=seconds, quiet=quiet)
    app.add_middleware(SecurityHeaders)
    allow_origins(app, settings.cors_origins)
    return app


def _lifespan(
    settings: Settings, metrics: Metrics, lifecycle: Lifecycle, compute: Compute | None, pace: Pace, *, wait: bool
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async def open_parts(parts: AsyncExitStack) -> None:
            service = await parts.enter_async_context(open_service(settings, metrics, lifecycle, compute, pace))
            app.state.service = service
            facts = {
                "model": service.recognizer.model_id,
                "device": service.embedder.device,
                "engine": service.embedder.engine,
            }
            log.info("started", url=getattr(app.state, "url", None), home=str(settings.home), **facts)

        def tell(error: StartupError) -> None:
            app.state.startup_error = error  # for the command line

        _warn_of_typos()
        async with Startup(open_parts, tell, lifecycle).run(wait=wait):
            yield
            log.info("stopping")

    return lifespan


def _warn_of_typos() -> None:
    for name, nearest in unknown_variables().items():
        log.warning("unknown_setting", variable=name, did_you_mean=nearest)
