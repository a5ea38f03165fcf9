"""The calibration of a gallery: its own, fitted to its own images, or that of the model."""

from __future__ import annotations

from functools import lru_cache

from app.errors import GalleryNotFoundError, TooLittleDataError
from app.gallery.protocol import Galleries
from app.names import DEFAULT_GALLERY
from app.store.base import Store
from model.calibration import Calibration
from model.manifest import Manifest


@lru_cache(maxsize=256)
def _parse(content: str) -> Calibration:
    return Calibration.model_validate_json(content)


class Calibrations:
    """The calibrations of all galleries, for the model of `manifest`. Methods block: call them from a thread."""

    def __init__(self, store: Store, index: Galleries, manifest: Manifest) -> None:
        self._store = store
        self._index = index
        self._manifest = manifest

    def of(self, gallery: str, prior: float | None = None) -> Calibration:
        """The gallery's calibration, with another prior if one is given. Raises GalleryNotFoundError."""
        try:
            content = self._index.info(gallery).calibration
        except GalleryNotFoundError:
            if gallery != DEFAULT_GALLERY:
                raise
            content = None
        return self.read(content, prior)

    def read(self, content: str | None, prior: float | None = None) -> Calibration:
        """Parse a gallery's own calibration, or take the model's for None; with another prior if one is given."""
        calibration = self._manifest.calibration if content is None else _parse(content)
        return calibration if prior is None else calibration.with_prior(prior)

    def fit(self, gallery: str, prior: float | None) -> Calibration:
        """Fit a calibration to the gallery's images, and store it. Raises GalleryNotFoundError, TooLittleDataError."""
        from model.calibrating import CalibrationError, fit_calibration  # noqa: PLC0415 - scipy is slow to import

        vectors, classes = self._index.labelled(gallery, self._manifest.digest)
        try:
            calibration = fit_calibration(
                self._manifest.metric,
                vectors,
                classes,
                source=f"the images of gallery {gallery!r}",
                prior=self._manifest.calibration.prior if prior is None else prior,
            )
        except CalibrationError as error:
            raise TooLittleDataError(str(error)) from error
        self._store.set_calibration(gallery, self._manifest.digest, calibration.model_dump_json())
        return calibration

    def forget(self, gallery: str) -> None:
        """Return to the model's calibration. Raises GalleryNotFoundError."""
        self._store.set_calibration(gallery, self._manifest.digest, None)
