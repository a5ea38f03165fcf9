"""State of the service: its model, health and metrics."""

from __future__ import annotations

from contextlib import suppress

from fastapi import Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.api.deps import NoQueryDep, ServiceDep
from app.api.door import router as make_router
from app.api.openapi import problems
from app.api.policy import GalleryIn, needs, open_to_all
from app.api_key import Scope
from app.errors import InvalidRequestError, NotReadyError, StoreUnavailableError
from app.recognition.model_change import read_change
from oneshot_client.answers import HealthPublic, ModelPublic

router = make_router(tags=["system"])


@router.get("/model", responses=problems(InvalidRequestError))
@needs(Scope.READ, GalleryIn.NONE)
async def get_model(service: ServiceDep, _query: NoQueryDep) -> ModelPublic:
    """Tell which model answers, on which device, and how its vectors are compared."""
    embedder, manifest = service.embedder, service.embedder.manifest
    return ModelPublic(
        model=manifest.model_id,
        digest=manifest.digest,
        similarity=manifest.similarity.kind,
        metric=embedder.metric,
        dim=embedder.dim,
        device=embedder.device,
        engine=embedder.engine,
        manifest=manifest.model_dump(mode="json"),
    )


@router.get("/livez")
@open_to_all(quiet=True)
async def livez() -> HealthPublic:
    """Tell that the process answers; a supervisor restarts it when it doesn't."""
    return HealthPublic(status="alive")


@router.get("/readyz", responses=problems(NotReadyError))
@open_to_all(quiet=True)
async def readyz(service: ServiceDep) -> HealthPublic:
    """Tell whether requests can be served: the network is warm, its thread alive, the store can be written."""
    if reason := await service.health.not_ready_because():
        raise NotReadyError(reason)
    return HealthPublic(status="ready")


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {}}, "description": "Prometheus' text format."},
        **problems(InvalidRequestError),
    },
)
@needs(Scope.READ, quiet=True)
async def metrics(service: ServiceDep) -> Response:
    """Counts and times for Prometheus."""
    service.metrics.set_galleries(await service.storing.run(service.index.sizes))
    service.metrics.view_age.set(service.index.age())
    with suppress(StoreUnavailableError):  # the metrics must report it
        change = await service.storing.run(lambda: read_change(service.store.models))
        service.metrics.change_shots.set(change.shots)
        service.metrics.change_done.set(change.done)
        service.metrics.change_held.set(sum(each.problem is not None for each in change.pending))
    return Response(service.metrics.render(), media_type=CONTENT_TYPE_LATEST)
