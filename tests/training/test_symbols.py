"""Symbols to train on: concepts, drawings, packs, variants, and batches of photographs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from model.manifest import SimilaritySpec
from model.preprocess import Preprocess
from testing.factories import draw_character
from testing.synthetic import write_tree
from training.batches import make_batches
from training.data.labelled import DatasetError, Drawings, prepare
from training.data.symbols.build import build_pack, pack
from training.data.symbols.concepts import (
    Concept,
    emoji_concept,
    flag_concept,
    icon_concept,
    letter_concept,
    logo_concept,
    split_of,
)
from training.data.symbols.download import download_packages
from training.data.symbols.drawing import Drawing, from_ink
from training.data.symbols.pack import Drawn, read_pack, write_pack
from training.data.symbols.part import PACK, SymbolsPart
from training.data.symbols.render import Font, draw
from training.data.symbols.variants import VariantsPart, make_variants
from training.drawings import DrawingSampler
from training.fit import fit
from training.machine import Machine
from training.recipe import load_recipe

SQUARE = '<rect x="4" y="4" width="16" height="16" fill="currentColor"/>'
RING = '<circle cx="12" cy="12" r="8" fill="none" stroke="currentColor" stroke-width="2"/>'
BAR = '<rect x="2" y="10" width="20" height="4" fill="currentColor"/>'
RED = '<circle cx="12" cy="12" r="9" fill="#d00000"/>'


@pytest.mark.parametrize(
    ("name", "concept", "style"),
    [
        ("home", Concept("icon", "home"), ""),
        ("home-outline-rounded", Concept("icon", "home"), "outline-rounded"),
        ("arrow-up-right-48-regular", Concept("icon", "arrow-up-right"), "48-regular"),
        ("line-20-filled", Concept("icon", "line"), "20-filled"),
        ("brand-github-filled", Concept("logo", "github"), "filled"),
        ("filled", Concept("icon", "filled"), ""),
    ],
)
def test_an_icon_is_its_name_without_style_words(name, concept, style):
    assert icon_concept(name) == (concept, style)


def test_concepts_of_other_families():
    assert logo_concept("google-gemini-icon") == Concept("logo", "googlegemini")
    assert emoji_concept("1F44D", "thumbs-up") == Concept("emoji", "1f44d", ("thumbs-up",))
    assert emoji_concept("1f44d-1f3fb", "thumbs-up-light") is None
    assert emoji_concept("2764-fe0f", "red-heart") == emoji_concept("2764", "red-heart")
    assert emoji_concept("1f1e9-1f1ea", "flag-for-germany") == flag_concept("DE")
    assert letter_concept(ord("Ω")) == Concept("letter/greek", "Ω", ("3a9", "3a9", "Ω"))
    assert letter_concept(ord("7")) == Concept("letter/sign", "7", ("37", "37", "7"))
    assert letter_concept(ord("C")) == Concept("letter/latin", "c", ("63", "43", "C"))
    assert letter_concept(ord("A")) == Concept("letter/latin", "A", ("41", "41", "A"))
    assert letter_concept(ord(".")) is None


def test_a_split_is_by_any_name():
    assert split_of(["a", "b"]) == split_of(["b", "a"])
    splits = [split_of([str(number)]) for number in range(4000)]
    assert splits.count("exam") / 4000 == pytest.approx(1 / 16, abs=0.015)
    assert splits.count("choosing") / 4000 == pytest.approx(1 / 16, abs=0.015)
    exam, choosing = (str(splits.index(split)) for split in ("exam", "choosing"))
    assert split_of([choosing, exam, "a"]) == "exam"


def svg(body: str) -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" color="#000">{body}</svg>'


def drawing_of(document: str | None) -> Drawing:
    assert document is not None
    found = draw(document)
    assert found is not None
    return found


def test_a_drawing_is_cut_to_what_is_drawn():
    square, bar = drawing_of(svg(SQUARE)), drawing_of(svg(BAR))
    assert square.shape == (64, 64, 4)
    assert not square[:, :, :3].any()
    assert (square[5:59, 5:59, 3] == 255).all()
    assert not square[:3, :, 3].any()
    assert (bar[:, 32, 3] > 0).sum() == pytest.approx(56 / 5, abs=2)
    assert draw(svg("")) is None
    with pytest.raises(ValueError, match=r".+"):
        draw("<svg")


def test_a_coloured_drawing_keeps_its_colours():
    drawing = drawing_of(svg(RED))
    inside = drawing[drawing[:, :, 3] == 255]
    assert (inside[:, 0] > 190).all()
    assert (inside[:, 1:3] < 20).all()


def test_handwriting_is_ink():
    drawing = from_ink(draw_character(3))
    assert not drawing[:, :, :3].any()
    assert 0.02 < drawing[:, :, 3].mean() / 255 < 0.5


def drawn(concept: Concept, body: str, hand: str = "test") -> Drawn:
    return Drawn(concept, hand, drawing_of(svg(body)))


def test_concepts_with_one_drawing_are_one_class():
    home, house, ring = (Concept("icon", name) for name in ("home", "house", "ring"))
    made = pack([drawn(home, SQUARE, "a"), drawn(house, SQUARE, "b"), drawn(ring, RING), drawn(house, RED, "c")])
    assert made.names.tolist() == ["home", "ring"]
    assert np.bincount(made.classes).tolist() == [2, 1]
    assert (len(made.alpha), len(made.colour)) == (2, 1)


def test_a_filler_joins_nothing():
    fillers = [drawn(Concept("letter/test", chr(0x4000 + number)), SQUARE) for number in range(40)]
    made = pack([*fillers, drawn(Concept("letter/test", chr(0x4000)), RING)])
    assert made.names.tolist() == [chr(0x4000)]


def write_packages(folder: Path) -> Path:
    """Write a small set of packages (icons, emoji, a flag) in npm's layout."""
    sets = {
        "tabler": {"home": SQUARE, "home-filled": RING, "brand-bar": BAR},
        "mdi": {"home-outline": SQUARE + RING},
        "twemoji": {"red-circle": RED, "thumbs-up-light": RED},
        "simple-icons": {"bar": RING + BAR},
    }
    for name, icons in sets.items():
        place = folder / "@iconify-json" / name
        place.mkdir(parents=True)
        content = {
            "prefix": name,
            "icons": {key: {"body": body} for key, body in icons.items()},
            "width": 24,
            "height": 24,
        }
        (place / "icons.json").write_text(json.dumps(content))
    codes = {"1f534": "red-circle", "1f44d-1f3fb": "thumbs-up-light"}
    (folder / "@iconify-json/twemoji/chars.json").write_text(json.dumps(codes))
    flags = folder / "flag-icons/flags/4x3"
    flags.mkdir(parents=True)
    (flags / "xx.svg").write_text(svg(RED + BAR))
    return folder


def test_packages_become_a_pack(tmp_path):
    seen = []
    made = build_pack(write_packages(tmp_path / "node_modules"), processes=1, listen=lambda *at: seen.append(at))
    classes = dict(zip(made.names.tolist(), np.bincount(made.classes).tolist(), strict=True))
    assert classes == {"1f534": 1, "bar": 2, "home": 3, "xx": 1}
    assert seen[-1] == (5, 5)
    write_pack(made, tmp_path / "pack.npz")
    again = read_pack(tmp_path / "pack.npz")
    for name, value in vars(made).items():
        assert np.array_equal(getattr(again, name), value), name


def test_a_pack_that_is_not_there_or_broken_is_named(tmp_path):
    with pytest.raises(DatasetError, match="download symbols"):
        read_pack(tmp_path / "none.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(DatasetError, match="no pack"):
        read_pack(tmp_path / "broken.npz")
    with pytest.raises(DatasetError, match="no package"):
        build_pack(tmp_path)


def test_a_font_is_drawn_letter_by_letter():
    found = shutil.which("fc-match")
    fonts = sorted(Path("/usr/share/fonts").rglob("DejaVuSans.ttf"))
    if not fonts:
        pytest.skip(f"no DejaVu font here ({found})")
    font = Font(fonts[0].read_bytes())
    assert ord("A") in font.points
    assert font.svg(ord(" ")) is None
    letter = drawing_of(font.svg(ord("L")))[:, :, 3] > 128
    assert letter[5:30].any(0).sum() < 20  # only the stem, on the left
    assert letter[50:58].any(0).sum() > 30


def test_without_npm_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DatasetError, match="npm is not installed"):
        download_packages(tmp_path)


def test_npm_is_given_the_lock_file_and_its_complaint_is_told(tmp_path, monkeypatch):
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text('#!/bin/sh\necho "npm error code EAI_AGAIN" >&2\n[ -f package-lock.json ] && exit 7\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}:/bin:/usr/bin")
    with pytest.raises(DatasetError, match="npm ci failed: code EAI_AGAIN"):
        download_packages(tmp_path / "symbols")


def test_the_lock_file_names_exact_versions_and_no_place():
    folder = Path(__file__).parents[2] / "training/data/symbols"
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    locked = json.loads((folder / "package-lock.json").read_text())["packages"]
    assert len(wanted) > 200
    for name, version in wanted.items():
        entry = locked[f"node_modules/{name}"]
        assert entry["version"] == version
        assert entry["integrity"].startswith("sha512-")
        assert "resolved" not in entry


def shapes(n_classes: int = 12, each: int = 3) -> Drawings:
    """Classes of bars at different angles, in ink; the hands differ in thickness."""
    axis = torch.arange(64) - 31.5
    pixels = torch.zeros(n_classes, each, 4, 64, 64, dtype=torch.uint8)
    for number in range(n_classes):
        angle = torch.tensor(number * torch.pi / n_classes)
        distance = (axis * angle.cos() + axis[:, None] * angle.sin()).abs()
        for hand in range(each):
            inside = (distance < 3 + hand) & (axis.square() + axis[:, None].square() < 28**2)
            pixels[number, hand, 3] = 255 * inside
    labels = torch.arange(n_classes).repeat_interleave(each)
    return Drawings(
        pixels.flatten(0, 1), labels, torch.arange(each).repeat(n_classes), torch.arange(n_classes) % 3,
        torch.ones(n_classes),
    )  # fmt: skip


def test_the_sampler_draws_two_drawings_of_each_class():
    data = shapes()
    generator = torch.Generator().manual_seed(1)
    apart, together = DrawingSampler(data, 8, same=0), DrawingSampler(data, 8, same=1)
    for _ in range(20):
        batch = apart.draw(generator)
        assert batch.images.shape == (8, 2, 4, 64, 64)
        assert len(set(batch.classes.tolist())) == 8
        for label, pair in zip(batch.classes, batch.images, strict=True):
            assert not torch.equal(pair[0], pair[1])
            for image in pair:
                assert any(torch.equal(image, own) for own in data.pixels[data.classes == label])
    assert all(torch.equal(*pair) for pair in together.draw(generator).images)
    with pytest.raises(DatasetError, match="there are 12"):
        DrawingSampler(data, 13, same=0)


def test_classes_are_drawn_by_their_weights():
    data = shapes()
    weights = torch.ones(12)
    weights[0], weights[1] = 30, 0
    sampler = DrawingSampler(Drawings(data.pixels, data.classes, data.sources, torch.zeros(12).long(), weights), 2, 0)
    generator = torch.Generator().manual_seed(1)
    counts = torch.bincount(torch.cat([sampler.draw(generator).classes for _ in range(200)]), minlength=12)
    assert counts[0] > 180
    assert counts[1] == 0


def test_plates_are_coloured_and_differ_between_classes():
    data = shapes()
    drawings = data.pixels.view(12, 3, 4, 64, 64)[:, :2]
    made = make_variants(drawings, VariantsPart(plate=1, tint=0, rivals=0), torch.Generator().manual_seed(1))
    assert made.dtype == torch.uint8
    assert (made[:, :, 3, 32, 32] == 255).all()  # the plate is opaque
    assert (made[:, :, :3].float().flatten(1).std(1) > 10).all()  # the symbol is visible on it
    assert torch.equal(made[:, 0, 3], made[:, 1, 3])  # both images have the same plate
    assert len({each.numpy().tobytes() for each in made[:, 0]}) == 12


def test_rivals_share_a_plate_or_a_symbol():
    data = shapes()
    drawings = data.pixels.view(12, 3, 4, 64, 64)[:, :2]
    generator = torch.Generator().manual_seed(1)
    plates = make_variants(drawings, VariantsPart(plate=1, tint=0, rivals=1), generator)[:, 0, 3]
    assert sum(torch.equal(plates[number], plates[number - 1]) for number in range(12)) >= 3
    tinted = make_variants(drawings, VariantsPart(plate=0, tint=1, rivals=1), generator)
    assert torch.equal(tinted[5, 0, 3], drawings[4, 0, 3])
    colours = tinted[:, 0, :3].flatten(2).amax(2).float()
    assert ((colours - colours.roll(1, 0)).abs().amax(1) > 40).all()


def test_without_variants_drawings_stay():
    drawings = shapes().pixels.view(12, 3, 4, 64, 64)[:, :2]
    made = make_variants(drawings, VariantsPart(plate=0, tint=0), torch.Generator().manual_seed(1))
    assert torch.equal(made, drawings)


RECIPE = """
name = "tiny-symbols"
similarity = "cosine"
validate_every = 2
validation_trials = 40
[data]
kind = "symbols"
held_out = ["Gamma"]
photographs = false
[data.camera]
strength = 0.05
[preprocess]
size = 24
channels = 3
polarity = "as-is"
[network]
kind = "focus"
window = 16
widths = [8, 8]
heads = 2
dim = 8
[sampler]
classes = 6
[[objective]]
kind = "matching"
[optimizer]
steps = 2
learning_rate = 0.001
"""


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """A pack of bars, and a synthetic Omniglot."""
    folder = tmp_path_factory.mktemp("datasets")
    write_tree(folder, alphabets={"Alpha": 5, "Gamma": 40})
    data = shapes(60)
    made = [
        Drawn(Concept("icon", f"bar-{label}"), f"hand {hand}", np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
        for label, hand, pixels in zip(data.classes.tolist(), data.sources.tolist(), data.pixels, strict=True)
    ]
    (folder / "symbols").mkdir()
    write_pack(pack(made), folder / "symbols" / PACK)
    return folder


def test_symbols_are_divided_by_concept_and_characters_by_alphabet(datasets):
    division = SymbolsPart(held_out=("Gamma",), photographs=False).read(datasets)
    choosing = sum(split_of([f"bar-{number}"]) == "choosing" for number in range(60))
    assert len(division.held_out.class_names) == choosing + 40
    assert len(division.held_out.images) == 3 * len(division.held_out.class_names)
    assert division.held_out.images[0].size == (96, 96)
    training = sum(split_of([f"bar-{number}"]) == "training" for number in range(60))
    assert division.drawings is not None
    assert division.drawings.n_classes == training + 5
    assert division.drawings.weights.shape == (training + 5,)
    for label in range(len(division.held_out.class_names)):
        sources = [s for s, c in zip(division.held_out.sources, division.held_out.classes, strict=True) if c == label]
        assert sorted(sources) == [0, 1, 2]


def test_the_exam_has_concepts_that_neither_train_nor_choose(datasets):
    exam = SymbolsPart(held_out=("Gamma",), photographs=True).exam(datasets)  # needs no Caltech-101, which is missing
    names = {f"bar-{number}" for number in range(60) if split_of([f"bar-{number}"]) == "exam"}
    assert {name.removeprefix("icon/") for name in exam.class_names} == names
    assert len(exam.images) == 3 * len(names)


def test_a_batch_is_the_same_for_the_same_state(datasets, tmp_path):
    (tmp_path / "r.toml").write_text(RECIPE)
    recipe = load_recipe(str(tmp_path / "r.toml"))
    division = recipe.data.read(datasets)
    training = prepare(division.training, Preprocess(recipe.preprocess))
    batches = make_batches(recipe, division, training, Machine())
    one, two = (batches.draw(torch.Generator().manual_seed(3), 0, Machine()) for _ in range(2))
    assert torch.equal(one[0], two[0])
    assert one[0].shape == (12, 3, 24, 24)
    assert batches.n_images == 12
    assert not torch.equal(one[0], batches.draw(torch.Generator().manual_seed(4), 0, Machine())[0])


def test_a_recipe_of_symbols_is_trained_and_calibrated(datasets, tmp_path):
    (tmp_path / "r.toml").write_text(RECIPE)
    losses = []
    recipe = load_recipe(str(tmp_path / "r.toml"))
    made = fit(recipe, datasets, tmp_path / "out", listen=lambda progress: losses.append(progress.loss))
    assert len(losses) == 2
    assert made.manifest.similarity == SimilaritySpec(kind="cosine", dim=8)
    assert "choosing concepts" in made.manifest.calibration.source
