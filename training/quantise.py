"""An int8 form of an artefact by post-training quantisation, calibrated and tested on held-out classes."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.artifact import Artifact, Int8Graph, add_graph, save_int8
from model.distances import Vectors
from model.embedder import Embedder
from model.openvino_engine import read_graph
from model.preprocess import Preprocess
from training.card import write_card
from training.data.division import Division
from training.data.labelled import PreparedImages, prepare, prepare_pixels
from training.episodes import judge_trials
from training.evaluate import embed
from training.fit import fit_held_out
from training.loop import TrainingError, validation_trials
from training.recipe import Recipe

if TYPE_CHECKING:
    import openvino as ov

#: Training images from which activation ranges are estimated; a thousand changed nothing on the shipped model.
SAMPLE = 300
TRIALS = 10_000
#: Parts of operation names: of those that place and cut the window, and of the first layer after them.
_WINDOW, _STEM = "/window/", "/stem/"
SEED = 0


@dataclass(frozen=True)
class Comparison:
    """Held-out one-shot accuracy of both forms, in percent, on the same ``TRIALS`` trials."""

    f32: float
    int8: float


def quantise(artifact: Artifact, datasets: Path, most_loss: float = 0.3) -> tuple[Artifact, Comparison]:
    """Make the int8 form of an artefact trained from a recipe, and write it into the artefact's folder.

    NNCF quantises weights and activations of convolutions and linear layers to 8 bits, with ranges estimated on
    training images. Operations after the last layer, which compute the similarity's index form, stay in f32; so do
    those listed at ``_kept_in_float``.

    Raises:
        TrainingError: it loses more than ``most_loss`` points of held-out accuracy; nothing is written.
        DatasetError: the data is missing.
    """
    if artifact.manifest.graph is None:
        artifact = add_graph(artifact)
    recipe = Recipe.model_validate(artifact.manifest.recipe)
    division = recipe.data.read(datasets)
    held_out = prepare(division.held_out, Preprocess(artifact.manifest.preprocess))
    graph = _quantised(artifact, division)
    candidate = Artifact(artifact.manifest, artifact.path, int8=graph)
    vectors = embed(Embedder(candidate, "cpu", 1, "openvino"), held_out.pixels)
    found = _compare(artifact, held_out, vectors, division.n_way)
    if found.int8 < found.f32 - most_loss:
        raise TrainingError(f"int8 has {found.int8:.2f} % right on held-out classes, f32 {found.f32:.2f} %")
    calibration = fit_held_out(artifact.manifest.metric, vectors, held_out, division)
    made = save_int8(artifact, graph, calibration)
    write_card(made.path, made.manifest)
    return made, found


def _quantised(artifact: Artifact, division: Division) -> Int8Graph:
    import nncf  # noqa: PLC0415 - only here
    import openvino as ov  # noqa: PLC0415

    preprocess, images = Preprocess(artifact.manifest.preprocess), division.training.images
    chosen = np.random.default_rng(SEED).permutation(len(images))[:SAMPLE]
    pixels = prepare_pixels([images[index] for index in chosen], preprocess).float() / 255
    plain = read_graph(artifact)
    model = nncf.quantize(
        plain,
        nncf.Dataset([each[None].numpy() for each in pixels]),
        subset_size=len(chosen),
        ignored_scope=nncf.IgnoredScope(names=_kept_in_float(plain), validate=False),
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph.xml"
        ov.save_model(model, file, compress_to_fp16=False)
        return Int8Graph(file.read_bytes(), file.with_suffix(".bin").read_bytes())


def _kept_in_float(model: ov.Model) -> list[str]:
    """Return the names of the operations that stay in f32.

    These are the ones after the last layer, products of two activations (as in attention), and those that place the
    window, because rounding would shift it.
    """
    operations = model.get_ordered_ops()
    names = [each.get_friendly_name() for each in operations]
    windowed = any(_WINDOW in name for name in names)
    first = next((place for place, name in enumerate(names) if windowed and _STEM in name), 0)
    layers = [place for place, each in enumerate(operations) if each.get_type_name() in {"MatMul", "Convolution"}]
    no_computation = {"Constant", "Parameter", "Result"}
    around = [*operations[:first], *operations[layers[-1] + 1 :]]
    around = [each for each in around if each.get_type_name() not in no_computation]
    products = [each for each in operations if each.get_type_name() == "MatMul" and not _has_weights(each)]
    return [each.get_friendly_name() for each in (*products, *around)]


def _has_weights(operation: ov.Node) -> bool:
    return any(
        port.get_source_output().get_node().get_type_name() in {"Constant", "Convert"} for port in operation.inputs()
    )


def _compare(artifact: Artifact, held_out: PreparedImages, int8: Vectors, n_way: int | None) -> Comparison:
    trials = validation_trials(held_out, n_way, TRIALS)
    f32 = embed(Embedder(artifact, "cpu"), held_out.pixels)
    metric = artifact.manifest.metric
    shares = [100 * float(judge_trials(metric, vectors, trials).mean()) for vectors in (f32, int8)]
    return Comparison(*shares)
