"""Symbols as a recipe's data: the split into training and held-out concepts, and how both are photographed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final, Literal, TypeVar

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from training.camera import CameraPart, photograph, read_grounds
from training.data.division import Division
from training.data.labelled import Drawings, LabelledImages, PreparedImages
from training.data.omniglot import read_omniglot
from training.data.symbols.drawing import from_ink
from training.data.symbols.pack import read_pack
from training.data.symbols.variants import VariantsPart
from training.objectives import Part

FOLDER: Final = "symbols"
PACK: Final = "symbols.npz"
SIZE: Final = 96
"""Side in pixels of the held-out pictures."""
N_WAY: Final = 20
_SEED: Final = 20
_SAMPLE: Final = 400
_CHARACTERS: Final = "character"
_T = TypeVar("_T")


class SymbolsPart(Part):
    """Rendered symbols and Omniglot's background characters, photographed by the simulated camera.

    Concepts are divided by the SHA-1 of their names, characters by alphabet. Held out are the choosing concepts and the
    ``held_out`` alphabets: of each class a clean picture, a photograph of the same drawing, and a photograph of another
    drawing, or of the same one if there is no other.
    """

    kind: Literal["symbols"] = "symbols"
    held_out: tuple[str, ...] = Field(min_length=1, description="Omniglot alphabets that are never trained on.")
    same: float = Field(default=0.5, ge=0, le=1, description="Chance that a pair is one drawing, taken twice.")
    balance: dict[str, float] = Field(
        default={"icon": 4, "letter": 3, "logo": 2, "emoji": 1.5, "character": 1.5, "flag": 0.3},
        description="How often classes of each kind are drawn, by size of these numbers.",
    )
    most: int = Field(default=1000, ge=N_WAY, description="Held-out classes at most, by chance: enough to choose by.")
    photographs: bool = Field(default=True, description="Take patches of Caltech-101 as grounds, too.")
    camera: CameraPart = CameraPart()
    variants: VariantsPart = VariantsPart()
    rotations: Literal[False] = False

    def read(self, datasets: Path) -> Division:
        """Read the pack and Omniglot's background set in ``datasets``, and divide them.

        Raises:
            DatasetError: one of them is missing.
        """
        pack = read_pack(datasets / FOLDER / PACK)
        background = read_omniglot(datasets, "background")
        grounds = read_grounds(datasets) if self.photographs else None
        symbols, characters = pack.part("training"), _characters(background.without_groups(self.held_out))
        kinds = [*pack.kinds("training"), *[_CHARACTERS] * characters.n_classes]
        drawings = _joined(symbols, characters, self._weights(kinds))
        kept = _characters(background.in_groups(self.held_out))
        chosen = pack.kinds("choosing")
        held = _joined(pack.part("choosing"), kept, torch.zeros(0))
        chosen_few, names = _sample(held, [*chosen, *[_CHARACTERS] * kept.n_classes], self.most)
        few, unnamed = _sample(drawings, ["training"] * drawings.n_classes, _SAMPLE)
        return Division(
            training=self._pictures(few, unnamed, grounds),
            held_out=self._pictures(chosen_few, _at_least(names, N_WAY), grounds),
            source=f"{held.n_classes} choosing concepts, clean and photographed",
            n_way=N_WAY,
            drawings=drawings,
            grounds=grounds,
        )

    def exam(self, datasets: Path) -> LabelledImages:
        """Return pictures of the exam concepts, made like the held-out ones but on generated grounds only.

        Reports show these pictures, so they must not contain third-party photographs.

        Raises:
            DatasetError: the pack is not in ``datasets``.
        """
        pack = read_pack(datasets / FOLDER / PACK)
        titles = list(zip(pack.kinds("exam"), pack.names[pack.splits == "exam"].tolist(), strict=True))
        few, chosen = _sample(pack.part("exam"), titles, self.most)
        return self._pictures(few, _at_least([kind for kind, _ in chosen], N_WAY), None, [name for _, name in chosen])

    def _weights(self, kinds: list[str]) -> Tensor:
        counts = Counter(kinds)
        return torch.tensor([self.balance.get(kind, 0.0) / counts[kind] for kind in kinds])

    def _pictures(
        self, drawings: PreparedImages, kinds: list[str], grounds: Tensor | None, names: list[str] | None = None
    ) -> LabelledImages:
        """Return a clean picture and a photograph of one drawing of each class, and a photograph of another drawing."""
        first, second = _two_hands(drawings)
        pictures = [
            photograph(_only(drawings, places), self.camera, SIZE, _SEED + number, grounds=grounds)
            for number, places in enumerate((first, second))
        ]
        n = drawings.n_classes
        taken = torch.cat([pictures[0].pixels, pictures[1].pixels[1::2]])
        group_names = sorted(set(kinds))
        return LabelledImages(
            images=[Image.fromarray(each) for each in taken.permute(0, 2, 3, 1).contiguous().numpy()],
            classes=[*np.repeat(np.arange(n), 2).tolist(), *range(n)],
            sources=[0, 1] * n + [2] * n,
            class_names=[f"{kind}/{name}" for kind, name in zip(kinds, names or map(str, range(n)), strict=True)],
            groups=[group_names.index(kind) for kind in kinds],
            group_names=group_names,
        )


def _characters(images: LabelledImages) -> PreparedImages:
    """Return handwritten characters as drawings in ink."""
    pixels = torch.from_numpy(np.stack([from_ink(image) for image in images.images])).permute(0, 3, 1, 2).contiguous()
    return PreparedImages(
        pixels, torch.tensor(images.classes), torch.tensor(images.sources), torch.tensor(images.groups)
    )


def _joined(one: PreparedImages, two: PreparedImages, weights: Tensor) -> Drawings:
    return Drawings(
        torch.cat([one.pixels, two.pixels]),
        torch.cat([one.classes, two.classes + one.n_classes]),
        torch.cat([one.sources, two.sources]),
        torch.cat([one.groups, two.groups + int(one.groups.max()) + 1]),
        weights,
    )


def _sample(drawings: PreparedImages, titles: list[_T], most: int) -> tuple[PreparedImages, list[_T]]:
    """Return the drawings of at most ``most`` random classes, renumbered, and the titles of these classes."""
    generator = torch.Generator().manual_seed(_SEED)
    chosen = torch.randperm(drawings.n_classes, generator=generator)[:most].sort().values
    number = torch.full((drawings.n_classes,), -1)
    number[chosen] = torch.arange(len(chosen))
    kept = torch.nonzero(number[drawings.classes] >= 0).flatten()
    sample = PreparedImages(
        drawings.pixels[kept], number[drawings.classes[kept]], drawings.sources[kept], drawings.groups[chosen]
    )
    return sample, [titles[place] for place in chosen.tolist()]


def _two_hands(drawings: PreparedImages) -> tuple[Tensor, Tensor]:
    """Return two random drawings of each class, as indices; the same one twice if there is only one."""
    generator = torch.Generator().manual_seed(_SEED)
    shuffled = torch.randperm(len(drawings.classes), generator=generator)
    order = shuffled[torch.argsort(drawings.classes[shuffled], stable=True)]
    counts = torch.bincount(drawings.classes, minlength=drawings.n_classes)
    firsts = counts.cumsum(0) - counts
    return order[firsts], order[firsts + (counts > 1).long()]


def _only(drawings: PreparedImages, places: Tensor) -> PreparedImages:
    return PreparedImages(drawings.pixels[places], drawings.classes[places], drawings.sources[places], drawings.groups)


def _at_least(kinds: list[str], fewest: int) -> list[str]:
    """Return the kinds, with those of fewer than ``fewest`` classes replaced by the most frequent one."""
    counts = Counter(kinds)
    most = counts.most_common(1)[0][0]
    return [kind if counts[kind] >= fewest else most for kind in kinds]
