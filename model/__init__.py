"""Networks and model artefacts: everything needed to turn an image into an embedding.

Imports neither ``app`` nor ``training``.
"""

import sys
from pathlib import Path
from typing import Final

# OpenVINO and NNCF send telemetry on each conversion unless importing openvino_telemetry fails.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

PRETRAINED: Final = Path(__file__).parent / "pretrained"
"""The shipped artefacts, one folder each, named after the artefact."""

DEFAULT_ARTIFACT: Final = PRETRAINED / "omniglot"
"""The artefact served by default."""


def artifact_folder(name: Path) -> Path:
    """Return the folder ``name``, or the shipped artefact of that name if there is no such folder."""
    shipped = PRETRAINED / name
    return shipped if len(name.parts) == 1 and shipped.is_dir() and not name.exists() else name
