"""Enrol many images with one request and one commit."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field

from app.api.body.batch_body import NDJSON, ZIP, BatchLimits, read_batch
from app.api.deps import ServiceDep
from app.api.door import router as make_router
from app.api.idempotency import PARAMETER, fingerprint_of
from app.api.openapi import FILES, IMAGE_PROBLEMS, form, problems
from app.api.policy import GalleryIn, needs
from app.api_key import Scope
from app.errors import (
    InvalidRequestError,
    KeyReusedError,
    MalformedBodyError,
    ModelMismatchError,
    TooManyPartsError,
    WriteInDoubtError,
)
from app.names import DEFAULT_GALLERY, GalleryName
from app.store.base import OnConflict
from oneshot_client.answers import BatchItem, BatchPublic

router = make_router(tags=["recognise"])

_BODY = form(["image"], image=FILES, label={"type": "array", "items": {"type": "string"}})
_LINES = {"type": "string", "description": 'Lines {"label": "alpha", "image": "<base64>"}.'}
_BODY["requestBody"]["content"][NDJSON] = {"schema": _LINES}
_ZIPPED = {"type": "string", "format": "binary", "description": "A zip file of images; labels by folder or file name."}
_BODY["requestBody"]["content"][ZIP] = {"schema": _ZIPPED}


class BatchQuery(BaseModel):
    """How to enrol many images."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gallery: GalleryName = Field(DEFAULT_GALLERY, description="Gallery to enrol into; made at need.")
    on_conflict: OnConflict = Field(OnConflict.REPLACE, description="What to do with a class that exists.")


@router.post(
    "/enroll/batch",
    responses=problems(
        MalformedBodyError,
        InvalidRequestError,
        ModelMismatchError,
        TooManyPartsError,
        WriteInDoubtError,
        KeyReusedError,
        *IMAGE_PROBLEMS,
    ),
    openapi_extra={"parameters": [PARAMETER]} | _BODY,
)
@needs(Scope.ENROL, GalleryIn.QUERY, writes=True)
async def enroll_batch(request: Request, service: ServiceDep, query: Annotated[BatchQuery, Query()]) -> BatchPublic:
    """Enrol many images. Each has its own status; all good ones are durable, in one commit, when this is answered.

    In a form, the label of each file `image` is the `label` at the same place, or, without any label, the file's name
    without its ending: `curl -F image=@alpha.png -F image=@beta.png localhost:8000/enroll/batch`. A zip file makes the
    classes that `oneshot enroll` makes of the folder in it: the label is the name of the outermost folder, or, without
    any folder, the file's name without its ending; what doesn't end like an image is passed over.
    """
    settings = service.settings
    limits = BatchLimits(settings.max_enroll_bytes, settings.max_upload_bytes, settings.max_enroll_images)
    fingerprint, once = fingerprint_of(request), None
    if fingerprint is not None:
        await fingerprint.add("enroll/batch", query.gallery, query.on_conflict)
    batch = await read_batch(request, limits, fingerprint)
    if fingerprint is not None:
        once = fingerprint.once()
    rows, model = await service.galleries.enroll_many(query.gallery, batch, query.on_conflict, once)
    answers = [
        BatchItem(index=place, label=label, status=row.status, problem=row.problem, detail=row.detail)
        for place, (label, row) in enumerate(zip(batch.labels, rows, strict=True))
    ]
    failed = sum(answer.problem is not None for answer in answers)
    return BatchPublic(
        enrolled=len(answers) - failed, failed=failed, passed_over=batch.passed_over, items=answers, model=model
    )
