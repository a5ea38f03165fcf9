"""Networks and model artefacts: everything needed to turn an image into an embedding.

Imports neither ``app`` nor ``training``.
"""

from pathlib import Path
from typing import Final

DEFAULT_ARTIFACT: Final = Path(__file__).parent / "pretrained" / "omniglot"
"""The artefact that is served when no other is named."""
