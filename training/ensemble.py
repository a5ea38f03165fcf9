"""Ensembles: several artefacts joined into one, more accurate at a multiple of the cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter
from torch import nn

from model.artifact import Artifact, load_artifact, save_artifact, write_manifest
from model.embedder import Embedder
from model.manifest import EnsembleSpec, MemberSpec, NetworkSpec, SimilaritySpec, embedding_dim
from model.networks import Ensemble
from model.preprocess import Preprocess
from model.similarity import build_similarity
from training.card import write_card
from training.data.labelled import prepare
from training.evaluate import embed
from training.fit import fit_held_out
from training.recipe import Recipe

_MEMBERS: TypeAdapter[tuple[MemberSpec, ...]] = TypeAdapter(tuple[MemberSpec, ...])


def join(members: Sequence[Artifact], datasets: Path, folder: Path, *, name: str) -> Artifact:
    """Write an artefact that compares by the mean cosine of ``members``, calibrated on their held-out classes.

    Raises:
        ValueError: a member does not compare by cosine, is an ensemble, or differs in input or held-out classes.
        DatasetError: the data is missing.
    """
    _check(members)
    first = members[0].manifest
    division = Recipe.model_validate(first.recipe).data.read(datasets)
    network, spec = _side_by_side(members)
    similarity = build_similarity(SimilaritySpec(kind="cosine", dim=embedding_dim(spec, first.preprocess)))
    made = save_artifact(
        folder,
        name=name,
        network=network,
        network_spec=spec,
        preprocess=first.preprocess,
        similarity=similarity,
        calibration=first.calibration,  # a placeholder, replaced below
        recipe=first.recipe,
    )
    held_out = prepare(division.held_out, Preprocess(first.preprocess))
    vectors = embed(Embedder(made, "cpu"), held_out.pixels)
    calibration = fit_held_out("cosine", vectors, held_out, division)
    joined = tuple(each.manifest.model_id for each in members)
    manifest = made.manifest.model_copy(update={"calibration": calibration, "joined": joined})
    write_manifest(folder, manifest)
    write_card(folder, manifest)
    return load_artifact(folder)


def _check(members: Sequence[Artifact]) -> None:
    first = members[0].manifest
    for manifest in (each.manifest for each in members):
        if manifest.similarity.kind != "cosine" or manifest.network.kind == "ensemble":
            raise ValueError(f"{manifest.model_id} can't be joined: it has to be a single network compared by cosine")
        if manifest.preprocess != first.preprocess:
            raise ValueError(f"{manifest.model_id} and {first.model_id} take different input; they can't be joined")
        if not manifest.recipe or manifest.recipe.get("data") != first.recipe.get("data"):
            raise ValueError(f"{manifest.model_id} and {first.model_id} do not hold out the same classes")


def _side_by_side(members: Sequence[Artifact]) -> tuple[nn.Module, NetworkSpec]:
    if len(members) == 1:
        return members[0].network, members[0].manifest.network
    specs = _MEMBERS.validate_python([each.manifest.network for each in members])
    return Ensemble([each.network for each in members]), EnsembleSpec(members=specs)
