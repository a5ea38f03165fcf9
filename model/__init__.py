"""Networks and model artefacts: everything needed to turn an image into an embedding.

Imports neither ``app`` nor ``training``.
"""

import sys
from pathlib import Path
from typing import Final

# OpenVINO and NNCF report each conversion to their makers, unless this module can't be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

DEFAULT_ARTIFACT: Final = Path(__file__).parent / "pretrained" / "omniglot"
"""The artefact that is served when no other is named."""
