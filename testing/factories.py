"""Factories for tests: drawn characters, encoded images, and small real artefacts with untrained weights."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from model.artifact import save_artifact
from model.calibration import Calibration, Chances, ErrorRates, LikelihoodRatio, Quality
from model.manifest import ConvSpec, PreprocessSpec, SimilarityKind, SimilaritySpec, embedding_dim
from model.networks import build_network
from model.similarity import build_similarity


def draw_character(seed: int, size: int = 105, jitter: float = 0.0, jitter_seed: int = 0) -> Image.Image:
    """Draw a random character of a few strokes, black on white; ``jitter`` is hand tremor in pixels."""
    points = np.random.default_rng(seed).uniform(0.15, 0.85, (3, 3, 2)) * size
    points += np.random.default_rng(jitter_seed).normal(0, 1, points.shape) * jitter
    image = Image.new("L", (size, size), 255)
    pen = ImageDraw.Draw(image)
    for stroke in points:
        pen.line([(float(x), float(y)) for x, y in stroke], fill=0, width=max(2, size // 35), joint="curve")
    return image


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Return the image encoded in the format ``kind`` (Pillow's name)."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_bytes(image: Image.Image) -> bytes:
    """Return the image as a PNG file."""
    return encode(image, "PNG")


def make_calibration() -> Calibration:
    """Return a calibration with plausible numbers for distances from about 0 to 2."""
    distances = (0.2, 0.3, 0.4, 0.6, 0.9, 1.1)
    fnmr = (0.5, 0.3, 0.2, 0.1, 0.01, 0.001)
    return Calibration(
        method="platt",
        likelihood_ratio=LikelihoodRatio(distances=(0.0, 1.0), values=(5.0, -7.0)),
        errors=ErrorRates(
            distances=distances,
            fmr=(1e-4, 1e-3, 1e-2, 0.1, 0.5, 0.9),
            fnmr=fnmr,
            fnmr_low=tuple(0.8 * rate for rate in fnmr),
            fnmr_high=tuple(1.2 * rate for rate in fnmr),
            n_impostor=30_000,
            n_genuine=2_000,
        ),
        chances=Chances(
            sizes=(1, 10, 100), rates=(0.01, 0.1), shares=((1, 1), (0.9, 0.8), (0.8, 0.7)), n_strangers=1000
        ),
        quality=Quality(log_loss=0.1, ece=0.01, predicted=(0.1, 0.9), observed=(0.1, 0.9), rejected={"beta": 0.2}),
        n_classes=50,
        source="made up for tests",
    )


def make_artifact(path: Path, kind: SimilarityKind = "cosine", seed: int = 0, size: int = 28) -> Path:
    """Write a small artefact with untrained weights and return its folder."""
    network_spec = ConvSpec(width=8, depth=2, dim=16)
    preprocess = PreprocessSpec(size=size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(network_spec, preprocess)
        similarity = build_similarity(SimilaritySpec(kind=kind, dim=embedding_dim(network_spec, preprocess)))
        save_artifact(
            path,
            name=f"test-{kind}",
            network=network,
            network_spec=network_spec,
            preprocess=preprocess,
            similarity=similarity,
            calibration=make_calibration(),
        )
    return path
