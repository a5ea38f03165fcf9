"""The artefacts of a data folder: the model that the service runs, and those that its galleries were made with.

They are kept in `models/<digest>/` of the home folder, so that a gallery's own model can answer for it when the service
is started with another, until the gallery has been embedded anew.
"""

from __future__ import annotations

import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from app.errors import ModelNotFoundError
from app.flushing import flush, flush_folder
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
from model.manifest import Manifest

MODELS_FOLDER = "models"


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
