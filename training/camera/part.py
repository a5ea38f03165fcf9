"""The camera's settings in a recipe."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from training.objectives import Part


class CameraPart(Part):
    """How drawings are photographed.

    Each photograph has a random strength between ``weakest`` and ``strength``; clean pictures have strength 0. Amounts
    scale with the strength and are reached at 1. Probabilities hold from strength 0.5 on, and decrease below it. A
    setting of 0 turns its effect off.
    """

    clean: float = Field(default=0.5, ge=0, le=1, description="Chance that the first image of a class is clean.")
    weakest: float = Field(default=0, ge=0, le=1, description="Strength of the weakest photograph.")
    strength: float = Field(default=1, ge=0, le=1, description="Strength of the strongest photograph.")

    scan: float = Field(
        default=0.15,
        ge=0,
        le=1,
        description="Chance that a photograph is a scan: by hand, but black on white and evenly lit.",
    )

    fill: float = Field(default=0.25, gt=0, le=1, description="Smallest share of the side that a symbol fills.")
    cut: float = Field(default=0.08, ge=0, lt=0.5, description="Share of a symbol that may lie outside the picture.")
    rotation: float = Field(default=20, ge=0, le=60, description="Degrees, to either side; rarely three times that.")
    perspective: float = Field(default=0.22, ge=0, le=0.3, description="Slope of the plane, 0.3 being a steep view.")
    stretch: float = Field(default=0.3, ge=0, le=1, description="Width by height is up to exp(+-this).")
    shear: float = Field(default=0.2, ge=0, le=1)
    bend: float = Field(default=0.12, ge=0, le=0.5, description="Curvature of the surface.")
    wobble: float = Field(
        default=0.08, ge=0, le=0.3, description="Shifts of ink by an unsteady hand; a third for others."
    )

    thickness: float = Field(default=1.5, ge=0, le=2, description="Pixels of 64 by which ink grows or shrinks.")
    outline: float = Field(default=0.02, ge=0, le=1, description="Chance that ink keeps only its outline.")
    relief: float = Field(default=0.12, ge=0, le=1, description="Chance of a carved or embossed symbol.")
    faint: float = Field(default=0.5, ge=0, lt=1, description="How much of its ink a pencil may leave out.")
    contrast: float = Field(
        default=0.3, ge=0, le=0.5, description="Least difference in luminance of symbol and ground, before the light."
    )
    colour: float = Field(default=1, ge=0, le=2, description="Shifts of hue, saturation and brightness; greys.")
    duotone: float = Field(default=0.12, ge=0, le=1, description="Chance that a coloured drawing is of two colours.")

    photo: float = Field(default=0.5, ge=0, le=1, description="Chance of a photograph as the ground.")
    texture: float = Field(default=0.35, ge=0, le=1, description="Chance of a gradient or pattern as the ground.")
    card: float = Field(default=0.3, ge=0, le=1, description="Chance of a card, sign or plate under the symbol.")
    clutter: float = Field(default=0.15, ge=0, le=1, description="Chance of other symbols beside it.")
    occlusion: float = Field(default=0.12, ge=0, le=1, description="Chance of a thing before the symbol.")

    light: float = Field(default=0.5, ge=0, le=1, description="Light from a side: up to exp(+-this) at the edge.")
    shadow: float = Field(default=0.25, ge=0, le=1, description="Chance of the edge of a shadow.")
    glare: float = Field(default=0.15, ge=0, le=1, description="Chance of a glare.")
    exposure: float = Field(default=1.4, ge=0, le=2, description="Brightness times exp(+-this); also tone and haze.")
    white: float = Field(default=0.2, ge=0, le=1, description="White balance: each channel times exp(+-this).")
    blur: float = Field(default=2.2, ge=0, le=8, description="Standard deviation of the blur, in pixels of 64.")
    coarse: float = Field(default=4, ge=1, le=8, description="Factor by which the resolution is lower.")
    noise: float = Field(default=0.08, ge=0, le=0.5, description="Standard deviation of the noise.")
    jpeg: float = Field(default=2.5, ge=0, le=10, description="Factor on JPEG's quantisation table; 1 is quality 50.")
    posterise: float = Field(default=0.03, ge=0, le=1, description="Chance of few levels of each channel.")

    @field_validator("strength")
    @classmethod
    def _no_weaker_than_the_weakest(cls, strength: float, info: ValidationInfo) -> float:
        if strength < info.data.get("weakest", 0):
            raise ValueError("must not be less than weakest")
        return strength
