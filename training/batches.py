"""Batches for the training step: images of P classes, distorted or photographed differently each time."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from training.augment import Augment
from training.camera import Camera
from training.data.division import Division
from training.data.labelled import PreparedImages
from training.data.symbols.part import SymbolsPart
from training.data.symbols.variants import VariantsPart, make_variants
from training.drawings import DrawingSampler
from training.machine import Machine
from training.recipe import Recipe
from training.samplers import ClassSampler

_SEEDS = 2**62


class Batches(Protocol):
    """Draws batches of P classes x K images."""

    @property
    def n_classes(self) -> int:
        """Number of classes; drawn class numbers are below it."""

    @property
    def n_images(self) -> int:
        """Number of images in a batch."""

    def draw(self, generator: torch.Generator, step: int, machine: Machine) -> tuple[Tensor, Tensor]:
        """Return the network's input for this process's p classes, and all classes (P,).

        The input has shape (p * K, channels, size, size) and is on the machine's device. All randomness comes from
        ``generator``, on the CPU.
        """


class DistortedBatches:
    """Prepared images, distorted."""

    def __init__(self, sampler: ClassSampler, augment: Augment) -> None:
        self._sampler = sampler
        self._augment = augment

    @property
    def n_classes(self) -> int:
        """Number of classes; drawn class numbers are below it."""
        return self._sampler.n_classes

    @property
    def n_images(self) -> int:
        """Number of images in a batch."""
        return self._sampler.n_images

    def draw(self, generator: torch.Generator, step: int, machine: Machine) -> tuple[Tensor, Tensor]:
        """Return the distorted images of this process's share, and all classes."""
        batch = self._sampler.draw(generator, step)
        n_classes, n_images = batch.images.shape[:2]
        share = machine.share(n_classes)
        share = slice(share.start * n_images, share.stop * n_images)
        images = self._augment(batch.images.flatten(0, 1), generator, share)
        return _on(machine, images), batch.classes.to(machine.device)


class PhotographedBatches:
    """Drawings, photographed by the simulated camera on the machine's device."""

    def __init__(self, sampler: DrawingSampler, variants: VariantsPart, camera: Camera) -> None:
        self._sampler = sampler
        self._variants = variants
        self._camera = camera

    @property
    def n_classes(self) -> int:
        """Number of classes; drawn class numbers are below it."""
        return self._sampler.n_classes

    @property
    def n_images(self) -> int:
        """Number of images in a batch."""
        return self._sampler.size * self._sampler.n_images

    def draw(self, generator: torch.Generator, step: int, machine: Machine) -> tuple[Tensor, Tensor]:  # noqa: ARG002 - every batch is new
        """Return the photographs of this process's share, and all classes."""
        batch = self._sampler.draw(generator)
        drawings = make_variants(batch.images.to(machine.device), self._variants, generator)
        seed = int(torch.randint(_SEEDS, (), generator=generator))
        chance = torch.Generator(machine.device).manual_seed((seed + machine.rank) % _SEEDS)
        pictures = self._camera(drawings[machine.share(len(drawings))], chance)
        return _on(machine, pictures), batch.classes.to(machine.device)


def distorted_batches(recipe: Recipe, training: PreparedImages) -> Batches:
    """Return batches of ``training`` images with the recipe's distortions.

    Raises:
        DatasetError: there are too few classes, or too few images of one.
    """
    sampler = ClassSampler(training, recipe.sampler, rotations=recipe.data.rotations, seed=recipe.seed)
    return DistortedBatches(sampler, Augment(recipe.augment))


def make_batches(recipe: Recipe, division: Division, training: PreparedImages, machine: Machine) -> Batches:
    """Return the batches of a recipe: photographs of the drawings of ``division``, or ``training`` distorted.

    Raises:
        DatasetError: there are too few classes, or too few images of one.
        ValueError: the camera does not support the size of the network's input.
    """
    if not isinstance(recipe.data, SymbolsPart) or division.drawings is None:
        return distorted_batches(recipe, training)
    sampler = DrawingSampler(division.drawings, recipe.sampler.classes, recipe.data.same)
    # Compiling takes a minute and pays off only on a GPU.
    compiled = machine.device.type == "cuda"
    camera = Camera(recipe.data.camera, division.grounds, recipe.preprocess.size, compiled=compiled)
    return PhotographedBatches(sampler, recipe.data.variants, camera)


def _on(machine: Machine, images: Tensor) -> Tensor:
    return images.to(machine.device).contiguous(memory_format=torch.channels_last)
