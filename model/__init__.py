"""Networks and model artefacts: everything needed to turn an image into an embedding.

Imports neither ``app`` nor ``training``.
"""

import sys
from pathlib import Path
from typing import Final

# OpenVINO and NNCF report each conversion to their makers, unless this module can't be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

PRETRAINED: Final = Path(__file__).parent / "pretrained"
"""The artefacts that are shipped, each in a folder of its name."""

DEFAULT_ARTIFACT: Final = PRETRAINED / "omniglot"
"""The artefact that is served when no other is named."""


def artifact_folder(name: Path) -> Path:
    """Return the folder ``name``, or the shipped artefact of that name where there is no such folder."""
    shipped = PRETRAINED / name
    return shipped if len(name.parts) == 1 and shipped.is_dir() and not name.exists() else name
