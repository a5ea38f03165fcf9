"""Refused images: the error's content, and that it does not keep their pixels in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest

from app.errors import BadImageError, BlankImageError, UndecodableImageError
from app.inference.images import Upload
from app.inference.prepare import prepare
from app.inference.protocols import Network
from model.artifact import load_artifact
from model.embedder import Preparer
from model.images import ImageLimits
from testing.factories import draw_character
from testing.growth import look
from testing.hostile import black_png, encoded

SIDE = 4000


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize(("error", "missing"), [(BlankImageError, 0), (UndecodableImageError, 2000)])
def test_the_error_of_a_refused_image_does_not_hold_its_pixels(
    artifact: Path, error: type[BadImageError], missing: int
):
    network = cast(Network, Preparer(load_artifact(artifact).manifest))  # the part that needs no device
    data = black_png(SIDE, SIDE) if error is BlankImageError else encoded(draw_character(1, size=SIDE), "PNG")
    upload = Upload(data[: len(data) - missing], "image[3]")
    errors = list[BadImageError]()
    before = look(os.getpid(), 0).resident
    for _ in range(10):
        with pytest.raises(error) as refused:
            prepare(network, ImageLimits(), upload)
        errors.append(refused.value)
    assert look(os.getpid(), 0).resident - before < 5 * SIDE * SIDE / 1e6  # half of the ten images
    assert errors[-1].field == "image[3]"
