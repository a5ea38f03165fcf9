"""The artefacts and settings of the service's tests."""

from tests.app.conftest import artifact, artifact_of, no_settings_from_outside

__all__ = ["artifact", "artifact_of", "no_settings_from_outside"]
