"""A recipe: all settings of a training run, in one TOML file. Unknown keys are refused."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, ValidationInfo, field_validator

from model import DEFAULT_ARTIFACT
from model.artifact import read_manifest
from model.manifest import NetworkSpec, PreprocessSpec, SimilarityKind
from training.data.parts import DataPart
from training.objectives import Objective, Part
from training.optimizers import OptimizerPart

RECIPES = Path(__file__).parent / "recipes"
"""The recipes that come with the project."""


class RecipeError(ValueError):
    """The file is not a usable recipe; ``str(error)`` is one line that says where and why."""


class AugmentPart(Part):
    """Random distortions, drawn independently for every image of every step."""

    rotation: float = Field(default=0, ge=0, le=180, description="Degrees, to either side.")
    scale: float = Field(default=0, ge=0, lt=1, description="Factor 1 +- this, for each axis.")
    shear: float = Field(default=0, ge=0, le=1)
    translation: float = Field(default=0, ge=0, le=1, description="Share of the side, to either side.")
    each: float = Field(
        default=1, ge=0, le=1, description="Chance of each of rotation, scale, shear and translation by itself."
    )
    elastic: float = Field(
        default=0, ge=0, le=1, description="Standard deviation of a 5 x 5 grid's shifts, in shares of the side."
    )
    gamma: float = Field(default=0, ge=0, le=2, description="Ink to the power exp(+-this): thinner or bolder strokes.")
    bold: float = Field(
        default=0,
        ge=0,
        le=0.2,
        description="How far every second image's ink grows at most, in shares of the side.",
    )
    mirror: bool = Field(default=False, description="Mirror every second image, left to right.")
    contrast: float = Field(default=0, ge=0, le=2, description="Differences from the mean times exp(+-this).")
    light: float = Field(default=0, ge=0, le=2, description="Light from a random side: up to exp(+-this) at the edge.")
    erase: float = Field(default=0, ge=0, le=1, description="Largest side of a box that is blotted out.")
    border: Literal["zeros", "repeat"] = Field(default="zeros", description="What comes in from outside the image.")
    probability: float = Field(default=1, ge=0, le=1, description="Chance that an image is distorted at all.")


class SamplerPart(Part):
    """A batch: ``classes`` classes from few alphabets, ``images`` different images of each."""

    classes: int = Field(ge=2)
    images: int = Field(default=2, ge=2)
    groups: int | None = Field(
        default=None,
        ge=1,
        description="Take about as many classes of each of this many alphabets; None: whole alphabets, as few as fit.",
    )
    batches: int | None = Field(
        default=None, ge=1, description="Draw this many batches once and repeat them; None: every batch is new."
    )
    adapt: bool = Field(
        default=False, description="Take fewer classes where there are fewer, and an image twice where a class has few."
    )


class WhiteningPart(Part):
    """Whitening after training: the last linear layer is changed to decorrelate the training images' embeddings."""

    kind: Literal["total", "within"] = Field(
        default="total",
        description="total: the covariance of all embeddings; within: of embeddings around their class.",
    )
    strength: float = Field(default=1, gt=0, le=1, description="1 whitens fully; less leaves part of the scales.")
    shrinkage: float = Field(default=0.1, ge=0, le=1, description="Share of a sphere mixed into the covariance.")
    total: float = Field(
        default=0, ge=0, le=1, description="within: share of the total covariance, brought to its size, mixed into it."
    )


class Recipe(Part):
    """One training run."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    seed: int = Field(default=0, ge=0)
    init: str = Field(
        default="",
        description="Folder of an artefact to start from, or 'default'; its network, preprocessing and similarity "
        "take the place of the recipe's. Empty: random weights.",
    )
    data: DataPart
    preprocess: PreprocessSpec
    network: NetworkSpec
    similarity: SimilarityKind
    augment: AugmentPart = AugmentPart()
    sampler: SamplerPart
    objective: tuple[Objective, ...] = Field(min_length=1)
    optimizer: OptimizerPart
    whitening: WhiteningPart | None = Field(default=None, validate_default=True)
    validate_every: int = Field(default=500, gt=0, description="Steps between looks at the held-out classes.")
    validation_trials: int = Field(default=4000, gt=0, description="One-shot trials of each look.")
    patience: int = Field(
        default=0,
        ge=0,
        description="Looks without a new best after which training ends; the best weights are kept. 0: to the end.",
    )

    @field_validator("whitening")
    @classmethod
    def _something_is_learned(cls, whitening: WhiteningPart | None, info: ValidationInfo) -> WhiteningPart | None:
        optimizer = info.data.get("optimizer")
        if whitening is None and optimizer is not None and not optimizer.steps:
            raise ValueError("is missing: with optimizer.steps at 0 nothing else would learn")
        return whitening

    @property
    def init_folder(self) -> Path | None:
        """The folder of the artefact to start from, or None."""
        return (DEFAULT_ARTIFACT if self.init == "default" else Path(self.init)) if self.init else None


def load_recipe(source: str, changes: tuple[str, ...] = ()) -> Recipe:
    """Read the recipe at the path ``source``, or the project's recipe of that name.

    Args:
        source: a path, or a name such as ``omniglot``.
        changes: ``part.key=value`` settings that replace the file's; values are TOML.

    Raises:
        RecipeError: no such file, not TOML, or not a recipe.
        ArtifactError: the artefact to start from cannot be read.
    """
    file = Path(source) if Path(source).suffix == ".toml" else RECIPES / f"{source}.toml"
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        for change in changes:
            _apply(content, change)
        return _started_from_artifact(TypeAdapter(Recipe).validate_python(content))
    except OSError as error:
        known = ", ".join(sorted(path.stem for path in RECIPES.glob("*.toml")))
        raise RecipeError(f"{file}: {error.strerror}; the project's own recipes are {known}") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{file} is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise RecipeError(f"{file}: {_place(content, first['loc'])}: {first['msg']}") from error


def _place(content: Any, location: tuple[str | int, ...]) -> str:
    """Return an error's key in the file, without the discriminator names that pydantic adds to the location."""
    *parents, last = location
    place = []
    for part in parents:
        if isinstance(content, dict) and part not in content:
            continue
        content = content[part]
        place.append(str(part))
    return ".".join([*place, str(last)])


def _started_from_artifact(recipe: Recipe) -> Recipe:
    if recipe.init_folder is None:
        return recipe
    manifest = read_manifest(recipe.init_folder)
    taken = {"network": manifest.network, "preprocess": manifest.preprocess, "similarity": manifest.similarity.kind}
    return recipe.model_copy(update=taken)


def _apply(content: dict[str, Any], change: str) -> None:
    key, equals, value = change.partition("=")
    if not equals:
        raise RecipeError(f"{change!r} is not part.key=value")
    *parts, last = key.strip().split(".")
    for part in parts:
        content = content.setdefault(part, {})
    try:
        content[last] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        content[last] = value.strip()
