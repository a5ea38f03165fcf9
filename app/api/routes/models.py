"""The models of the data folder: list, switch, roll back."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from app.api.deps import NoQueryDep, ServiceDep
from app.api.door import router as make_router
from app.api.openapi import problems
from app.api.policy import needs
from app.api.schemas import SwitchQuery
from app.api_key import Scope
from app.errors import (
    ConflictError,
    ImagesNotKeptError,
    InvalidRequestError,
    ModelNotFoundError,
    UnavailableError,
    WriteInDoubtError,
)
from app.recognition.model_change import Change, previous_model, read_change, want_model
from app.service.service import Service
from app.store.models import Progress
from oneshot_client.answers import ModelChangePublic, ModelsPublic

router = make_router(tags=["models"])


def change_public(wanted: str | None, progress: Progress) -> ModelChangePublic:
    """The answer's model of a gallery's change."""
    return ModelChangePublic(
        digest=wanted or progress.model_digest,
        shots=progress.shots,
        done=progress.done,
        without_image=progress.without_image,
        problem=progress.problem,
    )


@router.get("/models", responses=problems(InvalidRequestError))
@needs(Scope.ADMIN)
async def get_models(service: ServiceDep, _query: NoQueryDep) -> ModelsPublic:
    """Tell which models the data folder has, and how far a change is."""
    return await service.storing.run(lambda: _models(service))


@router.post(
    "/models/switch",
    status_code=202,
    responses=problems(InvalidRequestError, ModelNotFoundError, ImagesNotKeptError, WriteInDoubtError),
)
@needs(Scope.ADMIN)
async def switch_model(service: ServiceDep, query: Annotated[SwitchQuery, Query()]) -> ModelsPublic:
    """Change all galleries to a model; each answers with its present one until all its images are embedded anew."""
    return await service.pools.writing.write(lambda: _switch(service, query.digest))


@router.post(
    "/models/rollback",
    status_code=202,
    responses=problems(InvalidRequestError, ConflictError, ImagesNotKeptError, WriteInDoubtError),
)
@needs(Scope.ADMIN)
async def roll_back(service: ServiceDep, _query: NoQueryDep) -> ModelsPublic:
    """Go back to the model before; its vectors were kept, so only what was enrolled since is embedded."""
    return await service.pools.writing.write(lambda: _switch(service, previous_model(service.store.models)))


def _switch(service: Service, digest: str) -> ModelsPublic:
    if service.models.shelf.manifest(digest) is None:
        raise ModelNotFoundError(digest)
    want_model(service.store.models, digest)
    try:
        return _models(service)
    except UnavailableError as error:
        raise WriteInDoubtError(f"The change was made; how far it is can't be told now: {error.detail}") from error


def _models(service: Service) -> ModelsPublic:
    return models_public(read_change(service.store.models), service.models.shelf.digests())


def models_public(change: Change, available: list[str]) -> ModelsPublic:
    """The answer's model of all models and changes."""
    return ModelsPublic(
        model=change.model,
        previous=change.previous,
        available=available,
        galleries={each.gallery: change_public(change.model, each) for each in change.pending},
    )
