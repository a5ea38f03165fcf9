"""Distillation: the loss pair by pair, the teacher from an artefact, and the objective in training."""

from __future__ import annotations

import math

import pytest
import torch

from model.artifact import ArtifactError
from model.manifest import PreprocessSpec, SimilaritySpec
from model.similarity import build_similarity
from testing.factories import make_artifact
from testing.synthetic import TINY_RECIPE, write_tree
from training.fit import fit
from training.losses import Embedded, build_loss
from training.objectives import DistillObjective
from training.recipe import load_recipe
from training.teacher import Teacher

P, K, D = 3, 2, 5
CPU = torch.device("cpu")
STUDENT = torch.randn(P, K, D, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(P)


@pytest.fixture
def teacher(tmp_path):
    return Teacher(make_artifact(tmp_path / "teacher", "euclidean", size=28), PreprocessSpec(size=28), CPU)


def objective(part, teacher):
    return build_loss((part,), build_similarity(SimilaritySpec(kind="cosine", dim=D)), 8, teacher)


def log_softmax(scores: list[float]) -> list[float]:
    total = math.log(sum(math.exp(score) for score in scores))
    return [score - total for score in scores]


def test_similarities_are_matched_row_by_row(teacher):
    taught = torch.randn(P, K, 16, generator=torch.Generator().manual_seed(1))
    loss = objective(DistillObjective(teacher="", scale=3), teacher)
    mine, theirs = STUDENT.flatten(0, 1), taught.flatten(0, 1)
    total = 0.0
    for i in range(P * K):
        others = [j for j in range(P * K) if j != i]
        mine_row = log_softmax([3 * torch.cosine_similarity(mine[i], mine[j], dim=0).item() for j in others])
        their_row = log_softmax([-3 * (theirs[i] - theirs[j]).norm().item() for j in others])
        total += sum(math.exp(wanted) * (wanted - found) for wanted, found in zip(their_row, mine_row, strict=True))
    assert loss(Embedded(STUDENT, CLASSES, taught)).item() == pytest.approx(total / (P * K), rel=1e-4)


def test_a_teacher_sees_the_students_images_at_its_own_size(teacher):
    assert teacher.embed(torch.rand(4, 1, 40, 40)).shape == (4, 16)


def test_teachers_that_do_not_fit(tmp_path, teacher):
    with pytest.raises(ArtifactError, match="cannot be read"):
        Teacher(tmp_path / "nowhere", PreprocessSpec(size=28), CPU)
    with pytest.raises(ValueError, match="prepares images otherwise"):
        Teacher(tmp_path / "teacher", PreprocessSpec(size=28, channels=3), CPU)
    with pytest.raises(ValueError, match="needs a teacher"):
        objective(DistillObjective(teacher=""), None)
    with pytest.raises(ValueError, match="needs a teacher"):
        objective(DistillObjective(teacher=""), teacher)(Embedded(STUDENT, CLASSES))


def test_a_student_comes_nearer_to_its_teacher(tmp_path):
    tree = write_tree(tmp_path / "omniglot")
    make_artifact(tmp_path / "teacher", size=20)
    text = TINY_RECIPE.format(similarity="cosine", objective="distill").replace(
        'kind = "distill"', f'kind = "distill"\nteacher = "{tmp_path / "teacher"}"'
    )
    (tmp_path / "student.toml").write_text(text)
    losses: list[float] = []
    recipe = load_recipe(str(tmp_path / "student.toml"), ("optimizer.steps=40",))
    fit(recipe, tree, tmp_path / "out", listen=lambda progress: losses.append(progress.loss))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
