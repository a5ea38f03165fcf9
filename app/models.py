"""The models that a data folder needs: that which the service runs, and those that its galleries were made with.

Artefacts are kept in `models/<digest>/` of the home folder, so that a gallery's own model can answer for it when the
service is started with another, until the gallery has been embedded anew.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from app.errors import ModelMismatchError, ModelNotFoundError
from app.flushing import flush, flush_folder
from app.galleries import Galleries
from app.network import Network, Queue
from app.recognizer import Recognizer
from app.workers import WorkPool
from model.artifact import (
    MANIFEST_FILE,
    Artifact,
    ArtifactError,
    check_files,
    files_of,
    load_artifact,
    read_forms,
    read_manifest,
)
from model.embedder import DeviceError
from model.manifest import Manifest

T = TypeVar("T")

MODELS_FOLDER = "models"
_TRIES = 3
_MOVING_SECONDS = 0.05


class ModelShelf:
    """The artefacts in the home folder, by digest."""

    def __init__(self, home: Path) -> None:
        self.folder = home / MODELS_FOLDER

    def path(self, digest: str) -> Path:
        """Where the artefact is, or would be."""
        return self.folder / digest

    def __contains__(self, digest: str) -> bool:
        return (self.path(digest) / MANIFEST_FILE).is_file()

    def digests(self) -> list[str]:
        """All that are there."""
        return sorted(path.parent.name for path in self.folder.glob(f"*/{MANIFEST_FILE}"))

    def forms(self, digest: str) -> tuple[str | None, str | None]:
        """The digests of the artefact and of its int8 form, one of which is ``digest``, None where one isn't there."""
        own = self.manifest(digest)
        if own is not None and own.quantised is not None:
            return (own.quantised.source if own.quantised.source in self else None), digest
        others = ((each, self.manifest(each)) for each in self.digests())
        int8 = (each for each, it in others if it and it.quantised and it.quantised.source == digest)
        return digest, next(int8, None)

    def put_forms(self, artifact: Path) -> tuple[str | None, str | None]:
        """Copy the artefact in, and its int8 form if it carries one; returns their digests. Raises ArtifactError."""
        base, int8 = read_forms(artifact)
        return (self.put(base) if base else None), (self.put(int8) if int8 else None)

    def put(self, artifact: Path) -> str:
        """Copy one form in, whole or not at all; one that differs only in its calibration is replaced.

        Returns its digest. Raises ArtifactError.
        """
        manifest = read_manifest(artifact)
        self._put(artifact, manifest)
        return manifest.digest

    def _put(self, artifact: Path, manifest: Manifest) -> None:
        target = self.path(manifest.digest)
        if manifest.digest in self and (target / MANIFEST_FILE).read_bytes() == (artifact / MANIFEST_FILE).read_bytes():
            return
        check_files(artifact, manifest)
        self.folder.mkdir(parents=True, exist_ok=True)
        flush(self.folder.parent)
        copy = Path(tempfile.mkdtemp(prefix=".new-", dir=self.folder))
        try:
            for name in files_of(manifest):
                shutil.copyfile(artifact / name, copy / name)
            flush_folder(copy, files_of(manifest))
            if manifest.digest in self:  # the same weights: only the manifest is another
                (copy / MANIFEST_FILE).replace(target / MANIFEST_FILE)
                flush(target)
            else:
                copy.chmod(0o755)
                copy.rename(target)
                flush(self.folder)  # before the store names it
        except OSError:
            if manifest.digest not in self:  # unless another process was quicker
                raise
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def manifest(self, digest: str) -> Manifest | None:
        """The manifest, or None when the artefact isn't there (or isn't what it should be)."""
        return _manifest(self.path(digest)) if digest in self else None

    def manifest_of(self, digest: str) -> Manifest:
        """The manifest. Raises ModelNotFoundError when it isn't there."""
        manifest = self.manifest(digest)
        if manifest is None:
            raise ModelNotFoundError(digest, "its files are not in the data folder")
        return manifest

    def load(self, digest: str) -> Artifact:
        """The artefact. Raises ModelNotFoundError."""
        try:
            artifact = load_artifact(self.path(digest))
        except ArtifactError as error:
            raise ModelNotFoundError(digest, str(error)) from error
        if artifact.manifest.digest != digest:
            raise ModelNotFoundError(digest, f"{self.path(digest)} holds another one")
        return artifact


@lru_cache(maxsize=64)
def _manifest(path: Path) -> Manifest | None:
    try:
        manifest = read_manifest(path)
    except ArtifactError:
        return None
    return manifest if manifest.digest == path.name else None


@dataclass(frozen=True)
class RunningModel:
    """A model in memory, with the thread that runs it and the use cases over it."""

    embedder: Network
    batcher: Queue
    recognizer: Recognizer

    @property
    def digest(self) -> str:
        """The model's digest."""
        return self.embedder.digest


class Models:
    """The running models: `primary` answers what concerns no gallery and makes new ones; others are loaded at need.

    `start` runs the model of a digest; it may raise ModelNotFoundError and DeviceError.
    """

    def __init__(
        self,
        primary: RunningModel,
        shelf: ModelShelf,
        index: Galleries,
        storing: WorkPool,
        start: Callable[[str], RunningModel],
    ) -> None:
        self.primary = primary
        self.shelf = shelf
        self._index = index
        self._storing = storing
        self._start = start
        self._running = {primary.digest: primary}
        self._lock = threading.Lock()

    async def answer(self, gallery: str, use: Callable[[Recognizer], Awaitable[T]]) -> tuple[T, str]:
        """`use` the recogniser of the gallery's model; returns its answer, and the model's name.

        A gallery that switches its model meanwhile is asked again, once its view is that of the new model.
        """
        for attempt in range(_TRIES):
            # at first the model that the gallery had when it was last looked at: whoever uses it looks again
            known = None if attempt else self._running.get(self._index.last_digest(gallery) or self.primary.digest)
            model = await self._storing.run(lambda: self.of(gallery)) if known is None else known
            try:
                return await use(model.recognizer), model.recognizer.model_id
            except ModelMismatchError:
                if attempt == _TRIES - 1:
                    raise
                while await self._storing.run(lambda: self._index.moving(gallery)):  # noqa: ASYNC110 - in a thread
                    await asyncio.sleep(_MOVING_SECONDS)
        raise AssertionError  # unreachable: the last attempt returns or raises

    def of(self, gallery: str) -> RunningModel:
        """The model of the gallery; that of the service where there is no gallery yet. Blocks.

        Raises ModelMismatchError when the gallery's model isn't there.
        """
        digest = self._index.digest(gallery)
        if digest is None:
            return self.primary
        try:
            return self.get(digest)
        except ModelNotFoundError as error:
            raise ModelMismatchError(gallery, digest, self.primary.digest) from error

    def get(self, digest: str) -> RunningModel:
        """The model, loaded at need. Blocks. Raises ModelNotFoundError."""
        running = self._running.get(digest)
        if running is not None:
            return running
        with self._lock:
            if digest not in self._running:
                try:
                    self._running[digest] = self._start(digest)
                except DeviceError as error:  # an int8 form on a GPU, or where OpenVINO is missing
                    raise ModelNotFoundError(digest, f"it can't be run here: {error}") from error
            return self._running[digest]

    def prepare(self, gallery_id: int, gallery: str, digest: str) -> None:
        """Make ready what a large gallery needs to be searched once it has the model. Blocks."""
        self._index.prepare(gallery_id, gallery, digest)

    def make_primary(self, digest: str) -> None:
        """From now on this model answers what concerns no gallery. Blocks. Raises ModelNotFoundError."""
        self.primary = self.get(digest)

    def close(self) -> None:
        """End all threads."""
        with self._lock:
            for model in self._running.values():
                model.batcher.close()
