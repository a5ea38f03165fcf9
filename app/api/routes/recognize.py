"""Enrol, classify, verify, embed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Query, Request, Response

from app.api.body.uploads import Form, FormSpec, missing, read_form, read_image
from app.api.deps import AccessDep, NoQueryDep, ServiceDep
from app.api.door import json_response
from app.api.door import router as make_router
from app.api.idempotency import PARAMETER, fingerprint_of
from app.api.openapi import FILE, FILES, IMAGE_PROBLEMS, form, problems, text, with_raw_image
from app.api.policy import GalleryIn, needs
from app.api.routes.classes import class_public
from app.api.schemas import ClassifyQuery, EnrollQuery, VerifyQuery
from app.api_key import Scope
from app.errors import (
    BlankImageError,
    ClassExistsError,
    ClassNotFoundError,
    EmptyImageError,
    GalleryNotFoundError,
    InvalidRequestError,
    KeyReusedError,
    MalformedBodyError,
    ModelMismatchError,
    TooManyPartsError,
    TooManyPixelsError,
    UndecodableImageError,
    UnsupportedImageError,
    WriteInDoubtError,
)
from app.names import DEFAULT_GALLERY, class_path, clean_gallery, clean_label, image_path
from app.recognition.decision import Scored
from app.recognition.recognizer import Classification, Verification, Wanted
from app.store.base import OnConflict
from oneshot_client.answers import (
    Candidate,
    ClassifyPublic,
    EmbedPublic,
    EnrollPublic,
    ExplanationPublic,
    FnmrPublic,
    VerifyPublic,
)

router = make_router(tags=["recognise"])

_ENROLL = FormSpec(images={"image": 1}, texts=frozenset({"label", "gallery", "on_conflict"}))
_VERIFY = FormSpec(images={"image1": 1, "image2": 1}, texts=frozenset({"label"}))
_IMAGE_PROBLEMS = (
    MalformedBodyError,
    InvalidRequestError,
    EmptyImageError,
    UnsupportedImageError,
    UndecodableImageError,
    TooManyPixelsError,
    BlankImageError,
    *IMAGE_PROBLEMS,
)
_LABEL = text("Name of the class; kept in Unicode's NFC form.", "alpha", minLength=1)


@router.post(
    "/enroll",
    status_code=201,
    response_model=EnrollPublic,
    responses={
        200: {"model": EnrollPublic, "description": "The class was there and was replaced or added to."},
        **problems(
            ClassExistsError, ModelMismatchError, TooManyPartsError, WriteInDoubtError, KeyReusedError, *_IMAGE_PROBLEMS
        ),
    },
    openapi_extra={"parameters": [PARAMETER]}
    | form(
        ["label", "image"],
        label=_LABEL,
        image=FILE,
        gallery=text("Gallery to enrol into; made at need.", DEFAULT_GALLERY, default=DEFAULT_GALLERY),
        on_conflict=text(
            "What to do when the class exists.", "replace", enum=[*OnConflict], default=OnConflict.REPLACE
        ),
    ),
)
@needs(Scope.ENROL, GalleryIn.BODY, writes=True)
async def enroll(
    request: Request, service: ServiceDep, access: AccessDep, query: Annotated[EnrollQuery, Query()]
) -> Response:
    """Enrol one image of a class. What was answered is durable.

    `curl -F label=alpha -F image=@alpha.png localhost:8000/enroll`
    """
    fingerprint = fingerprint_of(request)
    fields = await read_form(request, service.settings.max_upload_bytes, _ENROLL)
    label, gallery, on_conflict = _label(fields), _gallery(fields, query.gallery), _on_conflict(fields)
    access.enter(gallery)
    image = fields.image("image")
    once = None
    if fingerprint is not None:
        await fingerprint.add("enroll", gallery, label, on_conflict, image.data)
        once = fingerprint.once()
    outcome, model = await service.galleries.enroll(gallery, label, image, on_conflict, once)
    enrolled = EnrollPublic(class_=class_public(outcome.class_record), created=outcome.created, model=model)
    status = 201 if outcome.created else 200
    return json_response(enrolled, status, {"Location": class_path(label, gallery)})


@router.post(
    "/classify",
    responses=problems(ModelMismatchError, TooManyPartsError, *_IMAGE_PROBLEMS),
    openapi_extra=with_raw_image(form(["image"], image=FILE)),
)
@needs(Scope.READ, GalleryIn.QUERY, viewed=True)
async def classify(request: Request, service: ServiceDep, query: Annotated[ClassifyQuery, Query()]) -> ClassifyPublic:
    """Find the class of an image. A stranger is a normal answer: `label` is null, the candidates are there.

    `curl -F image=@query.png localhost:8000/classify` or
    `curl -H 'Content-Type: image/png' --data-binary @query.png localhost:8000/classify`
    """
    service.recognizer.check_room()  # before the body is read
    upload = await read_image(request, service.settings.max_upload_bytes)
    wanted = Wanted(query.fpir, query.threshold, query.prior)
    with _gallery_is_an_input():
        found, model = await service.galleries.classify(upload, query.gallery, query.k, wanted, query.explain)
    best = next((each.similarity for each in found.decision.candidates), None)
    service.metrics.observe_decision(found.decision.label is not None, best)
    return _classify_public(found, query.gallery, model)


@router.post(
    "/verify",
    responses=problems(ClassNotFoundError, ModelMismatchError, TooManyPartsError, *_IMAGE_PROBLEMS),
    openapi_extra=form(["image1"], image1=FILE, image2=FILE, label=_LABEL),
)
@needs(Scope.READ, GalleryIn.QUERY, viewed=True)
async def verify(
    request: Request,
    service: ServiceDep,
    query: Annotated[VerifyQuery, Query()],
) -> VerifyPublic:
    """Tell whether two images, or an image and an enrolled class, are the same: give `image2` or `label`, not both.

    `curl -F image1=@a.png -F image2=@b.png localhost:8000/verify` or
    `curl -F image1=@a.png -F label=alpha localhost:8000/verify`
    """
    fields = await read_form(request, service.settings.max_upload_bytes, _VERIFY)
    first = fields.image("image1")
    if ("image2" in fields) == ("label" in fields):
        given = "both" if "label" in fields else "none"
        raise InvalidRequestError.at(
            "body", "image2", message=f"give either image2 or label, not {given}", kind="choice"
        )
    wanted = Wanted(query.fmr, query.threshold, query.prior)
    with _gallery_is_an_input():
        if "image2" in fields:
            second = fields.image("image2")
            found, model = await service.galleries.verify(first, second, query.gallery, wanted)
        else:
            label = _label(fields)
            found, model = await service.galleries.verify_class(first, query.gallery, label, wanted)
    return _verify_public(found, model)


@router.post(
    "/embed",
    responses=problems(TooManyPartsError, *_IMAGE_PROBLEMS),
    openapi_extra=form(["image"], image=FILES),
)
@needs(Scope.READ, GalleryIn.NONE)
async def embed(request: Request, service: ServiceDep, _query: NoQueryDep) -> EmbedPublic:
    """Turn one or more images into vectors in index form: the metric of `/model` on them is the service's distance.

    `curl -F image=@a.png -F image=@b.png localhost:8000/embed`
    """
    settings, recognizer = service.settings, service.recognizer
    recognizer.check_room()  # before the body is read
    spec = FormSpec(images={"image": settings.max_images})
    fields = await read_form(request, settings.max_upload_bytes, spec)
    vectors = await recognizer.embed(fields.images("image"))
    # not validated: checking each number of sixty-four vectors would take longer than computing some of them
    return EmbedPublic.model_construct(embeddings=vectors.tolist(), dim=vectors.shape[1], model=recognizer.model_id)


def _label(fields: Form) -> str:
    text = fields.text("label")
    if text is None:
        raise missing("label")
    try:
        return clean_label(text)
    except ValueError as error:
        raise InvalidRequestError.at("body", "label", message=str(error)) from None


def _gallery(fields: Form, from_query: str | None) -> str:
    name = fields.text("gallery")
    if name is None:
        return from_query or DEFAULT_GALLERY
    if from_query not in {None, name}:
        raise InvalidRequestError.at("body", "gallery", message=f"is {name!r}, but the query says {from_query!r}")
    try:
        return clean_gallery(name)
    except ValueError as error:
        raise InvalidRequestError.at("body", "gallery", message=str(error)) from None


def _on_conflict(fields: Form) -> OnConflict:
    choice = fields.text("on_conflict") or OnConflict.REPLACE
    try:
        return OnConflict(choice)
    except ValueError:
        message = f"is {choice!r}; allowed: {', '.join(OnConflict)}"
        raise InvalidRequestError.at("body", "on_conflict", message=message, kind="enum") from None


@contextmanager
def _gallery_is_an_input() -> Iterator[None]:
    """Turn a missing gallery into an invalid parameter (422), since a decision names its gallery in the query."""
    try:
        yield
    except GalleryNotFoundError as error:
        message = f"{error.detail} GET /galleries lists those that exist; {DEFAULT_GALLERY!r} is always there."
        raise InvalidRequestError.at("query", "gallery", message=message, kind="unknown_gallery") from error


def _candidate(item: Scored) -> Candidate:
    return Candidate.model_construct(label=item.label, similarity=item.similarity, distance=item.distance, llr=item.llr)


def _classify_public(found: Classification, gallery: str, model: str) -> ClassifyPublic:
    decision = found.decision
    # not validated, as in `embed`: all values were computed here
    return ClassifyPublic.model_construct(
        label=decision.label,
        ambiguous=decision.ambiguous,
        margin=decision.margin,
        candidates=[_candidate(item) for item in decision.candidates],
        threshold=decision.at.threshold,
        fpir=decision.at.fpir,
        prior=found.prior,
        gallery=gallery,
        gallery_size=decision.at.size,
        explanation=_explanation_public(found, gallery),
        model=model,
    )


def _explanation_public(found: Classification, gallery: str) -> ExplanationPublic | None:
    why = found.explanation
    if why is None:
        return None
    return ExplanationPublic(
        support_image=image_path(found.decision.candidates[0].label, gallery),
        impostor_rank=why.impostor_rank,
        stranger_rank=why.stranger_rank,
        runner_up=_candidate(why.runner_up) if why.runner_up else None,
    )


def _verify_public(found: Verification, model: str) -> VerifyPublic:
    fnmr = found.at.fnmr
    return VerifyPublic(
        verified=found.verified,
        similarity=found.similarity,
        distance=found.distance,
        llr=found.llr,
        threshold=found.at.threshold,
        fmr=found.at.fmr,
        fnmr=FnmrPublic(value=fnmr.value, low=fnmr.low, high=fnmr.high),
        prior=found.prior,
        model=model,
    )
