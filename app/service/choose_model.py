"""The first steps of each process: lock the data folder, and choose the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import ConflictError, ModelNotFoundError, StartupError, StoreCorruptError, StoreUnavailableError
from app.home.lock import serving
from app.home.model_shelf import ModelShelf
from app.settings import Settings, variable
from app.store import SqlStore
from app.store.models import MODEL
from model import DEFAULT_ARTIFACT, PRETRAINED, artifact_folder
from model.artifact import ArtifactError, read_forms, read_manifest
from model.embedder import DeviceError, EngineName, choose_form
from model.manifest import Manifest


@contextmanager
def held_home(settings: Settings) -> Iterator[Path]:
    """The data folder, created if missing and locked against a restore. Raises StartupError."""
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(
            f"{variable('home')}: {settings.home} can't be used as a folder: {error.strerror}"
        ) from error
    try:
        held = serving(settings.home)
        held.__enter__()
    except (ConflictError, OSError) as error:
        raise StartupError(f"{variable('home')}: {error}") from error
    try:
        yield settings.home
    finally:
        held.__exit__(None, None, None)


def choose_model(settings: Settings, store: SqlStore, shelf: ModelShelf, device: str, engine: EngineName) -> Manifest:
    """Choose the model to start with, and put it on the shelf: the configured one, else the store's, else the default.

    Returns the form of it that the device and the engine run. Raises StartupError.
    """
    try:
        own = store.models.fact(MODEL)
        if settings.model is None and own is not None:
            _take_shipped(own, shelf, store)
            base, int8 = shelf.forms(own)
        else:
            own, (base, int8) = None, shelf.put_forms(artifact_folder(settings.model or DEFAULT_ARTIFACT))
        return shelf.manifest_of(choose_form(base, int8, device=device, engine=engine, present=own))
    except DeviceError as error:
        raise StartupError(f"{variable('device')}, {variable('engine')}: {error}") from error
    except (ArtifactError, ModelNotFoundError) as error:
        raise StartupError(f"{variable('model')}: {error}") from error
    except StoreCorruptError as error:
        raise StartupError(f"Can't read the store {store.name}: {error}") from error
    except (OSError, StoreUnavailableError) as error:
        raise StartupError(f"{variable('home')}: {settings.home} can't be written: {error}") from error


def _take_shipped(digest: str, shelf: ModelShelf, store: SqlStore) -> None:
    """If the store's model is a shipped one, restore what the data folder lacks of it.

    Missing is either all of it or the graph, which earlier releases did not have. Raises StartupError when any other
    model is missing: using another in its place would change the model of every gallery.
    """
    for artifact in sorted(PRETRAINED.iterdir()):
        forms = {read_manifest(form).digest: form for form in read_forms(artifact) if form is not None}
        if digest in forms and digest not in shelf:
            shelf.put_forms(artifact)
        if digest in forms:
            for each, form in forms.items():
                shelf.complete(each, form)
            return
    if digest not in shelf:
        raise StartupError(
            f"{variable('model')}: the store {store.name} has the model {digest[:12]}, and {shelf.path(digest)} is "
            f"missing; copy it from a backup or another server's folder, or name a model to change all galleries to"
        )
