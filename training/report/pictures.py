"""The images in a report: the worst mistakes, and a map of the classes."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from sklearn.manifold import TSNE

from model.preprocess import Preprocess
from model.similarity import tensor_distances
from training.episodes import CHUNK, Trials
from training.report.schema import Map, Mistake
from training.subject import Subject

Floats = npt.NDArray[np.floating]

SHOWN = 24
PICTURE_SIDE = 96
SMALL_SPRITE, LARGE_SPRITE, FEW_CLASSES = 28, 34, 250
MAP_SEED = 0
LEAST_CLASSES = 8


def worst_mistakes(subject: Subject, n_way: int, n_trials: int, seed: int) -> tuple[int, tuple[Mistake, ...]]:
    """Return the number of wrong trials, and those with the largest distance gap between right and chosen support.

    The trials are those of the main one-shot figure. Each query is shown once.
    """
    trials = subject.trials(n_way, n_trials, seed, within=True)
    behind, chosen, near, far = _compare(subject, trials)
    wrong = np.flatnonzero(behind >= 0)
    worst: dict[int, int] = {}
    for trial in wrong[np.argsort(-behind[wrong], kind="stable")].tolist():
        worst.setdefault(int(trials.queries[trial]), trial)
    shown = list(worst.values())[:SHOWN]
    return len(wrong), tuple(
        _mistake(subject, trials, trial, int(chosen[trial]), float(near[trial]), float(far[trial])) for trial in shown
    )


def _compare(subject: Subject, trials: Trials) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the distance gap between right support and nearest other, the latter's index, and both distances."""
    points = torch.from_numpy(subject.vectors)
    columns: list[tuple[torch.Tensor, ...]] = []
    for start in range(0, len(trials.queries), CHUNK):
        rows = slice(start, start + CHUNK)
        queries, supports = points[trials.queries[rows]][:, None], points[trials.supports[rows]]
        found = tensor_distances(subject.embedder.metric, queries, supports)[:, 0]
        answers = torch.from_numpy(trials.answers[rows])[:, None]
        right = found.gather(1, answers)[:, 0]
        other, place = found.scatter(1, answers, torch.inf).min(1)
        columns.append((right - other, place, other, right))
    behind, chosen, near, far = (torch.cat(column).numpy() for column in zip(*columns, strict=True))
    return behind, chosen, near, far


def _mistake(  # noqa: PLR0917 - one row of the comparison
    subject: Subject, trials: Trials, trial: int, chosen: int, near: float, far: float
) -> Mistake:
    query, wrong = int(trials.queries[trial]), int(trials.supports[trial, chosen])
    right = int(trials.supports[trial, trials.answers[trial]])
    names = subject.images.class_names
    return Mistake(
        truth=names[subject.classes[right]],
        chosen=names[subject.classes[wrong]],
        distance_truth=max(far, 0.0),
        distance_chosen=max(near, 0.0),
        query_image=_picture(subject.images.images[query]),
        truth_image=_picture(subject.images.images[right]),
        chosen_image=_picture(subject.images.images[wrong]),
    )


def class_map(subject: Subject) -> Map | None:
    """Project the mean embedding of each class to the plane (t-SNE: van der Maaten and Hinton 2008)."""
    n_classes = subject.data.n_classes
    if n_classes < LEAST_CLASSES:
        return None
    sums = np.zeros((n_classes, subject.vectors.shape[1]))
    np.add.at(sums, subject.classes, subject.vectors)
    means = sums / np.bincount(subject.classes)[:, None]
    metric = {"cosine": "cosine", "l1": "manhattan", "l2": "euclidean"}[subject.embedder.metric]
    perplexity = min(15.0, (n_classes - 1) / 3)
    projection = TSNE(metric=metric, perplexity=perplexity, init="random", random_state=MAP_SEED).fit_transform(means)
    projection = projection - projection.mean(axis=0)
    projection /= np.abs(projection).max()
    first = [int(np.flatnonzero(subject.classes == label)[0]) for label in range(n_classes)]
    side = LARGE_SPRITE if n_classes <= FEW_CLASSES else SMALL_SPRITE
    sprites, columns = _sprites([_thumbnail(subject, index, side) for index in first], side)
    return Map(
        method=f"t-SNE of the classes' mean embeddings, perplexity {perplexity:g}, seed {MAP_SEED}",
        x=tuple(projection[:, 0].tolist()),
        y=tuple(projection[:, 1].tolist()),
        group=tuple(subject.data.groups.tolist()),
        groups=tuple(subject.images.group_names),
        sprites=sprites,
        sprite_side=side,
        sprite_columns=columns,
    )


def _thumbnail(subject: Subject, index: int, side: int) -> Image.Image:
    """Return the image as the network sees it, with bright ink."""
    prepared = Preprocess(subject.manifest.preprocess)(subject.images.images[index]).max(axis=0)
    picture = Image.fromarray(np.rint(prepared * 255).astype(np.uint8))
    return picture.resize((side, side), Image.Resampling.LANCZOS)


def _sprites(pictures: list[Image.Image], side: int) -> tuple[str, int]:
    columns = math.ceil(math.sqrt(len(pictures)))
    sheet = Image.new("L", (columns * side, -(-len(pictures) // columns) * side))
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (index % columns * side, index // columns * side))
    return data_uri(sheet.quantize(16)), columns


def _picture(image: Image.Image) -> str:
    shown = image.copy()
    shown.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS)
    return data_uri(shown)


def data_uri(image: Image.Image) -> str:
    """Return the image as a PNG inside a URI."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
