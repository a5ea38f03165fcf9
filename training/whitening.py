"""Whitening of embeddings, folded into the network's last linear layer, so that inference costs no more."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.data.labelled import PreparedImages
from training.recipe import WhiteningPart

_BATCH = 256


@torch.no_grad()
def whiten(network: nn.Module, data: PreparedImages, part: WhiteningPart) -> None:
    """Change the last layer of ``network`` so that the embeddings of ``data`` are centred and decorrelated.

    ``total`` whitens by the covariance of all embeddings, as PCA whitening does. ``within`` uses the covariance within
    classes, the core of linear discriminant analysis (Fisher 1936). ``part.total`` mixes the first into the second:
    with few training classes, the directions that separate them best are not those that separate all other classes.

    Raises:
        ValueError: the network does not end in a linear layer ``embed``.
    """
    last = getattr(network, "embed", None)
    if not isinstance(last, nn.Linear) or last.bias is None:
        raise ValueError("whitening needs a network whose last layer is linear; give network.dim")
    network.eval()
    device = last.weight.device
    parts = torch.split(data.pixels, _BATCH)
    embeddings = torch.cat([network(pixels.to(device).float() / 255).double().cpu() for pixels in parts])
    centre = embeddings.mean(0)
    covariance = _covariance(embeddings - centre)
    if part.kind == "within":
        within = _covariance(embeddings - _class_means(embeddings, data))
        share = part.total * within.trace() / covariance.trace()
        covariance = (1 - part.total) * within + share * covariance
    matrix = _inverse_power(covariance, part).to(last.weight)
    last.bias.copy_(matrix @ (last.bias - centre.to(last.bias)))
    last.weight.copy_(matrix @ last.weight)


def _class_means(embeddings: Tensor, data: PreparedImages) -> Tensor:
    """Return the mean of each image's class, shape (n, dim)."""
    totals = torch.zeros(data.n_classes, embeddings.shape[1], dtype=embeddings.dtype)
    totals.index_add_(0, data.classes, embeddings)
    return (totals / torch.bincount(data.classes, minlength=data.n_classes)[:, None])[data.classes]


def _covariance(deviations: Tensor) -> Tensor:
    """Return the covariance (dim, dim) of ``deviations`` (n, dim)."""
    return deviations.T @ deviations / len(deviations)


def _inverse_power(covariance: Tensor, part: WhiteningPart) -> Tensor:
    """Return the symmetric matrix C ** (-strength / 2) of the shrunk ``covariance`` C."""
    sphere = covariance.diagonal().mean() * torch.eye(len(covariance), dtype=covariance.dtype)
    values, vectors = torch.linalg.eigh((1 - part.shrinkage) * covariance + part.shrinkage * sphere)
    floor = 1e-9 * values[-1]
    power: Tensor = vectors @ torch.diag(values.clamp_min(floor) ** (-part.strength / 2)) @ vectors.T
    return power
