"""Galleries: namespaces of classes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query, Response

from app.api.deps import AccessDep, NoQueryDep, RecognizerDep, ServiceDep
from app.api.door import router as make_router
from app.api.openapi import problems
from app.api.policy import GalleryIn, needs
from app.api.routes.models import change_public
from app.api.schemas import CalibrateQuery
from app.api_key import Scope
from app.errors import (
    GalleryNotFoundError,
    InvalidRequestError,
    ModelMismatchError,
    TooLittleDataError,
    WriteInDoubtError,
)
from app.names import DEFAULT_GALLERY, GalleryName
from app.recognition.maps import GalleryMap
from app.recognition.model_change import read_change
from app.store.base import GalleryRecord
from app.store.models import Progress
from model.calibration import Calibration
from oneshot_client.answers import CalibrationPublic, GalleryList, GalleryPublic, MapPoint, MapPublic, NeighbourPublic

router = make_router(tags=["galleries"])

NamePath = Annotated[GalleryName, Path(description="Name of the gallery.", examples=[DEFAULT_GALLERY])]


@router.get("/galleries", responses=problems(InvalidRequestError))
@needs(Scope.READ, GalleryIn.ANSWER)
async def list_galleries(service: ServiceDep, access: AccessDep, _query: NoQueryDep) -> GalleryList:
    """List all galleries that the key is for, and how far each is that changes its model."""
    records = [record for record in await service.recognizer.list_galleries() if access.sees(record.name)]
    change = await service.storing.run(lambda: read_change(service.store.models))
    pending = {each.gallery: each for each in change.pending}
    return GalleryList(galleries=[_public(record, change.model, pending.get(record.name)) for record in records])


@router.delete(
    "/galleries/{name}",
    status_code=204,
    responses=problems(InvalidRequestError, GalleryNotFoundError, WriteInDoubtError),
)
@needs(Scope.ADMIN, GalleryIn.PATH, writes=True)
async def remove_gallery(name: NamePath, recognizer: RecognizerDep, _query: NoQueryDep) -> None:
    """Delete a gallery with all its classes."""
    await recognizer.remove_gallery(name)


@router.get(
    "/galleries/{name}/map",
    response_model=MapPublic,
    responses=problems(InvalidRequestError, GalleryNotFoundError, ModelMismatchError),
)
@needs(Scope.READ, GalleryIn.PATH, viewed=True)
async def get_map(name: NamePath, service: ServiceDep, _query: NoQueryDep) -> Response:
    """Lay a gallery's classes out in two dimensions, like near like, with the nearest others of each."""

    def render(found: GalleryMap, model: str) -> bytes:  # not in the event loop: it may be a megabyte or more
        return _map_public(name, found, model).model_dump_json(by_alias=True).encode()

    body, _ = await service.galleries.map(name, render)
    return Response(body, media_type="application/json")


@router.get("/galleries/{name}/calibration", responses=problems(InvalidRequestError, GalleryNotFoundError))
@needs(Scope.READ, GalleryIn.PATH)
async def get_calibration(name: NamePath, service: ServiceDep, _query: NoQueryDep) -> CalibrationPublic:
    """Tell what the gallery's similarities mean, and which error rates its data supports."""
    calibration, _ = await service.galleries.calibration(name)
    return _calibration_public(name, calibration)


@router.post(
    "/galleries/{name}/calibrate",
    responses=problems(
        InvalidRequestError, TooLittleDataError, GalleryNotFoundError, ModelMismatchError, WriteInDoubtError
    ),
)
@needs(Scope.ADMIN, GalleryIn.PATH, writes=True)
async def calibrate(
    name: NamePath, service: ServiceDep, query: Annotated[CalibrateQuery, Query()]
) -> CalibrationPublic:
    """Fit what a distance means to the gallery's own images; its classes must hold several shots each.

    `curl -X POST localhost:8000/galleries/default/calibrate`
    """
    calibration, _ = await service.galleries.calibrate(name, query.prior)
    return _calibration_public(name, calibration)


@router.delete(
    "/galleries/{name}/calibration",
    status_code=204,
    responses=problems(InvalidRequestError, GalleryNotFoundError, WriteInDoubtError),
)
@needs(Scope.ADMIN, GalleryIn.PATH, writes=True)
async def forget_calibration(name: NamePath, recognizer: RecognizerDep, _query: NoQueryDep) -> None:
    """Go back to the calibration that came with the model."""
    await recognizer.forget_calibration(name)


def _calibration_public(gallery: str, calibration: Calibration) -> CalibrationPublic:
    return CalibrationPublic(
        gallery=gallery,
        source=calibration.source,
        method=calibration.method,
        prior=calibration.prior,
        classes=calibration.n_classes,
        genuine_pairs=calibration.errors.n_genuine,
        impostor_pairs=calibration.errors.n_impostor,
        log_loss=calibration.quality.log_loss,
        ece=calibration.quality.ece,
        smallest_fmr=calibration.errors.smallest_fmr,
        smallest_fpir=calibration.chances.smallest_fpir,
    )


def _map_public(gallery: str, found: GalleryMap, model: str) -> MapPublic:
    labels, near = found.labels, found.near
    rows = zip(near.places.tolist(), found.similarities.tolist(), near.distances.tolist(), strict=True)
    neighbours = [
        [NeighbourPublic(label=labels[j], similarity=s, distance=d) for j, s, d in zip(*row, strict=True)]
        for row in rows
    ]
    points = [
        MapPoint(label=label, x=x, y=y, neighbours=near_by)
        for label, (x, y), near_by in zip(labels, found.projection.points.tolist(), neighbours, strict=True)
    ]
    explained = found.projection.explained
    return MapPublic(gallery=gallery, gallery_size=found.size, points=points, explained=explained, model=model)


def _public(record: GalleryRecord, wanted: str | None, progress: Progress | None) -> GalleryPublic:
    return GalleryPublic(
        model_change=None if progress is None else change_public(wanted, progress),
        name=record.name,
        classes=record.classes,
        digest=record.model_digest,
        created_at=record.created_at,
        calibrated=record.calibrated,
    )
