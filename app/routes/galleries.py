"""Galleries: namespaces of classes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.deps import NoQueryDep, RecognizerDep
from app.errors import GalleryNotFoundError, InvalidRequestError, ModelMismatchError, TooLittleDataError
from app.names import DEFAULT_GALLERY, GalleryName
from app.openapi import problems
from app.schemas import CalibrateQuery, CalibrationPublic, GalleryList, GalleryPublic
from app.store.base import GalleryRecord
from model.calibration import Calibration

router = APIRouter(tags=["galleries"])

NamePath = Annotated[GalleryName, Path(description="Name of the gallery.", examples=[DEFAULT_GALLERY])]


@router.get("/galleries", responses=problems(InvalidRequestError))
async def list_galleries(recognizer: RecognizerDep, _query: NoQueryDep) -> GalleryList:
    """List all galleries that somebody has enrolled into."""
    return GalleryList(galleries=[_public(record) for record in await recognizer.list_galleries()])


@router.delete("/galleries/{name}", status_code=204, responses=problems(InvalidRequestError, GalleryNotFoundError))
async def remove_gallery(name: NamePath, recognizer: RecognizerDep, _query: NoQueryDep) -> None:
    """Delete a gallery with all its classes."""
    await recognizer.remove_gallery(name)


@router.get("/galleries/{name}/calibration", responses=problems(InvalidRequestError, GalleryNotFoundError))
async def get_calibration(name: NamePath, recognizer: RecognizerDep, _query: NoQueryDep) -> CalibrationPublic:
    """Tell what the gallery's similarities mean, and which error rates its data supports."""
    return _calibration_public(name, await recognizer.calibration(name))


@router.post(
    "/galleries/{name}/calibrate",
    responses=problems(InvalidRequestError, TooLittleDataError, GalleryNotFoundError, ModelMismatchError),
)
async def calibrate(
    name: NamePath, recognizer: RecognizerDep, query: Annotated[CalibrateQuery, Query()]
) -> CalibrationPublic:
    """Fit what a distance means to the gallery's own images; its classes must hold several shots each.

    `curl -X POST localhost:8000/galleries/default/calibrate`
    """
    return _calibration_public(name, await recognizer.calibrate(name, query.prior))


@router.delete(
    "/galleries/{name}/calibration", status_code=204, responses=problems(InvalidRequestError, GalleryNotFoundError)
)
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


def _public(record: GalleryRecord) -> GalleryPublic:
    return GalleryPublic(
        name=record.name,
        classes=record.classes,
        digest=record.model_digest,
        created_at=record.created_at,
        calibrated=record.calibrated,
    )
