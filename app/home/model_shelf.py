"""The model artefacts in a data folder: that of the service, and those of its galleries.

They are in `models/<digest>/`. When the service is started with another model, a gallery's own model can serve it until
the gallery has been embedded again.
"""

from __future__ import annotations

import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from app.errors import ModelNotFoundError
from app.home.flushing import flush, flush_folder
from model.artifact import (
    MANIFEST_FILE,
    NETWORK_FILE,
    Artifact,
    ArtifactError,
    check_files,
    files_of,
    load_artifact,
    read_forms,
    read_manifest,
    write_manifest,
)
from model.manifest import Manifest

MODELS_FOLDER = "models"


class ModelShelf:
    """The artefacts in the home folder, by digest."""

    def __init__(self, home: Path) -> None:
        self.folder = home / MODELS_FOLDER

    def path(self, digest: str) -> Path:
        """The path of the artefact, whether or not it exists."""
        return self.folder / digest

    def __contains__(self, digest: str) -> bool:
        return (self.path(digest) / MANIFEST_FILE).is_file()

    def digests(self) -> list[str]:
        """The digests of all artefacts."""
        return sorted(path.parent.name for path in self.folder.glob(f"*/{MANIFEST_FILE}"))

    def forms(self, digest: str) -> tuple[str | None, str | None]:
        """The digests of the artefact and of its int8 form. One of them is ``digest``; a missing one is None."""
        own = self.manifest(digest)
        if own is not None and own.quantised is not None:
            return (own.quantised.source if own.quantised.source in self else None), digest
        others = ((each, self.manifest(each)) for each in self.digests())
        int8 = (each for each, it in others if it and it.quantised and it.quantised.source == digest)
        return digest, next(int8, None)

    def put_forms(self, artifact: Path) -> tuple[str | None, str | None]:
        """Copy in the artefact, and its int8 form if it has one; returns their digests. Raises ArtifactError."""
        base, int8 = read_forms(artifact)
        return (self.put(base) if base else None), (self.put(int8) if int8 else None)

    def put(self, artifact: Path) -> str:
        """Copy in one form atomically. An existing one that differs only in its calibration is replaced.

        Returns its digest. Raises ArtifactError.
        """
        manifest = read_manifest(artifact)
        file = self.path(manifest.digest) / MANIFEST_FILE
        if manifest.digest not in self or file.read_bytes() != (artifact / MANIFEST_FILE).read_bytes():
            self._put(artifact, manifest)
        return manifest.digest

    def complete(self, digest: str, artifact: Path) -> None:
        """Add the graph of ``artifact`` to a form that an earlier release stored without. The weights are the same.

        Raises ArtifactError.
        """
        present, graph = self.manifest(digest), read_manifest(artifact).graph
        if present is not None and present.graph is None and graph is not None:
            self._put(artifact, present.model_copy(update={"graph": graph}))

    def _put(self, artifact: Path, manifest: Manifest) -> None:
        check_files(artifact, manifest)
        self.folder.mkdir(parents=True, exist_ok=True)
        flush(self.folder.parent)
        copy = Path(tempfile.mkdtemp(prefix=".new-", dir=self.folder))
        try:
            for name in files_of(manifest):
                shutil.copyfile(artifact / name, copy / name)
            write_manifest(copy, manifest)
            flush_folder(copy, files_of(manifest))
            if manifest.digest in self:
                self._renew(copy, manifest)
            else:
                copy.chmod(0o755)
                copy.rename(self.path(manifest.digest))
                flush(self.folder)  # before the store refers to it
        except OSError:
            if manifest.digest not in self:  # unless another process has stored it meanwhile
                raise
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def _renew(self, copy: Path, manifest: Manifest) -> None:
        """Take the manifest from ``copy``, which has the same weights, and its graph if there is none yet."""
        target = self.path(manifest.digest)
        present = self.manifest(manifest.digest)
        if present is not None and present.graph is not None:
            # keep the present graph: it is equivalent, and two files can't be replaced atomically
            write_manifest(copy, manifest.model_copy(update={"graph": present.graph}))
            flush(copy / MANIFEST_FILE)
        elif manifest.graph is not None:
            (copy / NETWORK_FILE).replace(target / NETWORK_FILE)
        (copy / MANIFEST_FILE).replace(target / MANIFEST_FILE)
        flush(target)
        _manifest.cache_clear()

    def manifest(self, digest: str) -> Manifest | None:
        """The manifest, or None when the artefact is missing or invalid."""
        return _manifest(self.path(digest)) if digest in self else None

    def manifest_of(self, digest: str) -> Manifest:
        """The manifest. Raises ModelNotFoundError when it is missing or invalid."""
        manifest = self.manifest(digest)
        if manifest is None:
            raise ModelNotFoundError(digest, "its files are not in the data folder")
        return manifest

    def load(self, digest: str) -> Artifact:
        """Load the artefact. Raises ModelNotFoundError."""
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
