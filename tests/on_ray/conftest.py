"""The artefacts and settings of the service's tests."""

from tests.app.conftest import _no_settings_from_outside, artifact, artifact_of

__all__ = ["_no_settings_from_outside", "artifact", "artifact_of"]
