"""The classes of a gallery."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response

from app.api.body.uploads import read_json
from app.api.deps import LabelPath, RecognizerDep
from app.api.door import router as make_router
from app.api.openapi import FILE, json_body, problems
from app.api.policy import GalleryIn, needs
from app.api.schemas import GalleryQuery, PageQuery, RenameBody, ShotQuery
from app.api_key import Scope
from app.errors import (
    ClassExistsError,
    ClassNotFoundError,
    GalleryNotFoundError,
    ImageNotFoundError,
    InvalidRequestError,
    MalformedBodyError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
    WriteInDoubtError,
)
from app.store.base import ClassRecord
from oneshot_client.answers import ClassPage, ClassPublic

router = make_router(tags=["classes"])

_PROBLEMS = problems(InvalidRequestError, GalleryNotFoundError, ClassNotFoundError)


def class_public(record: ClassRecord) -> ClassPublic:
    """The answer's model of a class."""
    return ClassPublic(
        label=record.label,
        gallery=record.gallery,
        shots=record.supports,
        created_at=record.created_at,
        updated_at=record.updated_at,
    )


@router.get("/classes", responses=problems(InvalidRequestError, GalleryNotFoundError))
@needs(Scope.READ, GalleryIn.QUERY)
async def list_classes(recognizer: RecognizerDep, query: Annotated[PageQuery, Query()]) -> ClassPage:
    """List a gallery's classes in the order of their labels, page by page, or search them."""
    page = await recognizer.list_classes(query.gallery, query.limit, query.after, query.search)
    return ClassPage(gallery=query.gallery, classes=[class_public(item) for item in page.items], next=page.next_after)


# before the class itself, whose pattern matches this path too. The raw path is matched, so a label that ends in
# "/image" has its slash encoded and goes to the other route.
@router.get(
    "/classes/{label:path}/image",
    response_class=Response,
    responses={
        200: {"content": {"image/*": {"schema": FILE}}, "description": "The image as it was uploaded."},
        **problems(InvalidRequestError, GalleryNotFoundError, ClassNotFoundError, ImageNotFoundError),
    },
)
@needs(Scope.READ, GalleryIn.QUERY)
async def read_image(label: LabelPath, recognizer: RecognizerDep, query: Annotated[ShotQuery, Query()]) -> Response:
    """Get an enrolled image."""
    data, media_type = await recognizer.read_image(query.gallery, label, query.shot)
    return Response(data, media_type=media_type, headers={"X-Content-Type-Options": "nosniff"})


@router.get("/classes/{label:path}", responses=_PROBLEMS)
@needs(Scope.READ, GalleryIn.QUERY)
async def get_class(
    label: LabelPath, recognizer: RecognizerDep, query: Annotated[GalleryQuery, Query()]
) -> ClassPublic:
    """Get one class."""
    return class_public(await recognizer.get_class(query.gallery, label))


@router.patch(
    "/classes/{label:path}",
    responses=problems(
        InvalidRequestError,
        MalformedBodyError,
        PayloadTooLargeError,
        UnsupportedMediaTypeError,
        GalleryNotFoundError,
        ClassNotFoundError,
        ClassExistsError,
        WriteInDoubtError,
    ),
    openapi_extra=json_body(RenameBody),
)
@needs(Scope.ENROL, GalleryIn.QUERY, writes=True)
async def rename_class(
    request: Request, label: LabelPath, recognizer: RecognizerDep, query: Annotated[GalleryQuery, Query()]
) -> ClassPublic:
    """Rename a class; its images stay as they are.

    `curl -X PATCH -H 'Content-Type: application/json' -d '{"label": "beta"}' localhost:8000/classes/alpha`
    """
    body = await read_json(request, RenameBody)
    return class_public(await recognizer.rename_class(query.gallery, label, body.label))


@router.delete(
    "/classes/{label:path}",
    status_code=204,
    responses=problems(InvalidRequestError, GalleryNotFoundError, ClassNotFoundError, WriteInDoubtError),
)
@needs(Scope.ENROL, GalleryIn.QUERY, writes=True)
async def remove_class(label: LabelPath, recognizer: RecognizerDep, query: Annotated[GalleryQuery, Query()]) -> None:
    """Delete a class with its images and vectors."""
    await recognizer.remove_class(query.gallery, label)
