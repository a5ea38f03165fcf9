"""The camera: every setting has its effect and none at 0, clean pictures are clean, symbols stay visible."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from testing.drawings import drawings
from training.camera import Camera, CameraPart, pack_grounds, photograph, read_grounds, unpack_grounds
from training.data.labelled import DatasetError, PreparedImages

OFF = CameraPart(
    clean=0, scan=0, fill=1, cut=0, rotation=0, perspective=0, stretch=0, shear=0, bend=0, wobble=0,
    thickness=0, outline=0, relief=0, faint=0, contrast=0.3, colour=0, duotone=0,
    photo=0, texture=0, card=0, clutter=0, occlusion=0,
    light=0, shadow=0, glare=0, exposure=0, white=0, blur=0, coarse=1, noise=0, jpeg=0, posterise=0,
)  # fmt: skip
"""A camera that only places symbols on plain grounds."""
DRAWINGS = drawings()
DISC = torch.zeros(1, 1, 4, 64, 64, dtype=torch.uint8)
_AXIS = torch.arange(64) - 31.5
DISC[0, 0, 3] = 255 * ((_AXIS.square() + _AXIS.square()[:, None]) < 28**2)
GROUNDS = torch.randint(0, 256, (8, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(classes, images):
    order = torch.arange(classes)[:, None].expand(-1, images) % len(DRAWINGS)
    return DRAWINGS[order]


def taken(part, shown, size=64, grounds=None, seed=0):
    return Camera(part, grounds, size)(shown, seeded(seed))


def grey(pictures):
    return (pictures * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1)


@pytest.mark.parametrize("size", [48, 64, 96])
@pytest.mark.parametrize("grounds", [None, GROUNDS])
def test_shape_range_and_repetition(size, grounds):
    shown = batch(5, 3)
    first, again, other = (taken(CameraPart(), shown, size, grounds, seed) for seed in (1, 1, 2))
    assert first.shape == (15, 3, size, size)
    assert first.dtype == torch.float32
    assert first.min() >= 0
    assert first.max() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not first.requires_grad
    assert len(torch.unique(first.flatten(1).sum(1))) == 15


def test_bytes_and_floats_are_the_same_drawings():
    shown = batch(3, 2)
    assert torch.equal(taken(CameraPart(), shown), taken(CameraPart(), shown.float() / 255))


def test_a_single_drawing_is_photographed_too():
    assert taken(CameraPart(clean=0, clutter=1), batch(1, 1)).shape == (1, 3, 64, 64)


def test_automatic_precision_around_the_camera_changes_nothing():
    camera = Camera(CameraPart(), None, 64)
    with torch.autocast("cpu", torch.bfloat16):
        pictures = camera(batch(3, 2), seeded())
    assert torch.equal(pictures, camera(batch(3, 2), seeded()))


def test_a_size_that_is_no_multiple_of_8_is_refused():
    with pytest.raises(ValueError, match="multiple of 8 pixels, and is 60"):
        Camera(CameraPart(), None, 60)


def test_the_first_image_of_a_class_is_clean_and_only_that():
    part = CameraPart(clean=1)
    pictures = taken(part, DISC.expand(60, 2, -1, -1, -1)).view(60, 2, 3, 64, 64)
    # A clean picture of a black or white disc has few colours: ground, ink and the edge between them.
    clean = [len(torch.unique((picture * 20).round().view(3, -1), dim=1).T) for picture in pictures[:, 0]]
    photographs = [len(torch.unique((picture * 20).round().view(3, -1), dim=1).T) for picture in pictures[:, 1]]
    assert np.mean(np.array(clean) < 60) == 1
    assert np.mean(np.array(photographs) > 60) > 0.5
    corners = pictures[:, 0, :, ::63, ::63].flatten(2)
    white = (corners > 0.99).all(2).all(1).float().mean()
    assert 0.5 < white < 0.95, "white grounds are the rule, not the law"


def test_clean_pictures_keep_a_drawings_own_colours():
    shown = batch(9, 1)[4:5].expand(20, -1, -1, -1, -1)
    pictures = taken(CameraPart(clean=1), shown)
    red = (pictures[:, 0] > 0.75) & (pictures[:, 1] < 0.15) & (pictures[:, 2] < 0.15)
    assert (red.float().mean((1, 2)) > 0.05).all()


def test_a_scan_is_drawn_by_hand_on_a_plain_ground():
    part = CameraPart(clean=0, scan=1, weakest=0.9, fill=0.7, clutter=0)
    pictures = taken(part, DISC.expand(60, 1, -1, -1, -1), grounds=GROUNDS)
    corners = torch.stack([pictures[:, :, y, x] for y in (0, 63) for x in (0, 63)])
    assert ((corners - corners.median(0).values).abs().amax(2) < 0.02).float().mean() > 0.9
    assert ((corners.median(0).values > 0.99).all(1)).float().mean() > 0.5
    middle = pictures[:, :, 28:36, 28:36]
    assert (middle - middle.mean((2, 3), keepdim=True)).abs().amax((1, 2, 3)).median() < 0.02
    areas = ((pictures - corners.median(0).values[:, :, None, None]).abs().amax(1) > 0.3).float().mean((1, 2))
    assert areas.std() > 0.03, "the hand is unsteady"


def test_nothing_on_is_a_symbol_on_a_plain_ground():
    pictures = taken(OFF, DISC.expand(30, 1, -1, -1, -1))
    middle, corner = pictures[:, :, 32, 32], pictures[:, :, 0, 0]
    inside = pictures[:, :, 16:48, 16:48] - middle[:, :, None, None]
    assert inside.abs().max() < 0.03
    outside = (
        torch.cat([pictures[:, :, :4, :4].flatten(2), pictures[:, :, -4:, -4:].flatten(2)], 2) - corner[:, :, None]
    )
    assert outside.abs().max() < 0.03
    assert ((grey(middle[:, :, None, None]) - grey(corner[:, :, None, None])).abs() > OFF.contrast - 0.05).all()


def test_the_ground_shows_through_transparent_parts_only():
    empty = torch.zeros(8, 1, 4, 64, 64, dtype=torch.uint8)
    pictures = taken(OFF, empty)
    assert (pictures - pictures[:, :, :1, :1]).abs().max() < 0.03
    opaque = torch.zeros(8, 1, 4, 64, 64)
    opaque[:, :, 0], opaque[:, :, 3] = 0.8, 1
    red = taken(OFF.model_copy(update={"photo": 1.0}), opaque, grounds=GROUNDS)[:, :, 8:56, 8:56]
    assert (red - torch.tensor([0.8, 0, 0]).view(3, 1, 1)).abs().max() < 0.03


CHANGES = {
    "fill": 0.25, "rotation": 20, "perspective": 0.22, "stretch": 0.3, "shear": 0.2, "bend": 0.12, "wobble": 0.08,
    "thickness": 1.5, "outline": 1, "relief": 1, "faint": 0.5, "texture": 1, "card": 1, "clutter": 1, "occlusion": 1,
    "light": 0.5, "shadow": 1, "glare": 1, "exposure": 1.4, "white": 0.2, "blur": 2.2, "coarse": 4, "noise": 0.08,
    "jpeg": 2.5, "posterise": 1, "photo": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_each_setting_changes_pictures_that_are_else_the_same(name):
    """Random numbers come from the same rows whatever is enabled, so each effect can be tested in isolation."""
    shown = batch(4, 8)
    quiet = OFF.model_copy(update={"fill": 0.4}) if name == "clutter" else OFF
    changed = quiet.model_copy(update={name: CHANGES[name]})
    before, after = (taken(part, shown, grounds=GROUNDS) for part in (quiet, changed))
    assert (before - after).abs().mean() > 2e-4


@pytest.mark.parametrize("name", ["colour", "duotone"])
def test_colour_changes_coloured_drawings_and_leaves_ink(name):
    part = OFF.model_copy(update={name: 1.0})
    for shown, changes in ((batch(9, 4)[:4], False), (batch(9, 4)[4:], True)):
        difference = (taken(OFF, shown) - taken(part, shown)).abs().mean()
        assert (difference > 0.005) == changes


def test_no_strength_is_no_effect():
    part = CameraPart(clean=0, strength=0, fill=1)
    pictures = taken(part, DISC.expand(30, 1, -1, -1, -1))
    middle = pictures[:, :, 16:48, 16:48]
    assert (middle - middle.mean((2, 3), keepdim=True)).abs().max() < 0.03


def test_the_weakest_photograph_is_no_stronger_than_the_strongest():
    with pytest.raises(ValueError, match="must not be less than weakest"):
        CameraPart(weakest=0.5, strength=0.4)


def test_strength_grows_from_nearly_clean_to_wild():
    shown = DRAWINGS[:, None].expand(-1, 12, -1, -1, -1)
    plain = [taken(CameraPart(clean=0, strength=0), shown)]
    distances = [
        (taken(CameraPart(clean=0, weakest=strength, strength=strength), shown) - plain[0]).abs().mean()
        for strength in (0.1, 0.4, 1)
    ]
    assert distances[0] < distances[1] < distances[2]


@pytest.mark.parametrize("shape", range(4))
def test_ink_stands_out_on_every_ground(shape):
    """Before light and lens, the symbol's mean luminance differs from the ground's by most of ``part.contrast``."""
    lit = {
        "light": 0,
        "shadow": 0,
        "glare": 0,
        "exposure": 0,
        "white": 0,
        "blur": 0,
        "coarse": 1,
        "noise": 0,
        "jpeg": 0,
    }
    still = {"relief": 0, "occlusion": 0, "clutter": 0, "posterise": 0, "faint": 0, "wobble": 0, "bend": 0}
    part = CameraPart(clean=0, fill=0.6).model_copy(update=lit | still)
    shown = DRAWINGS[shape].expand(300, 1, -1, -1, -1)
    whole = grey(taken(part, shown, grounds=GROUNDS))
    spread = whole.flatten(1).quantile(0.99, dim=1) - whole.flatten(1).quantile(0.01, dim=1)
    assert (spread > 0.6 * part.contrast).float().mean() > 0.99


def test_a_symbol_fills_what_was_asked():
    part = OFF.model_copy(update={"fill": 0.5})
    pictures = taken(part, DISC.expand(200, 1, -1, -1, -1))
    corner = pictures[:, :, :1, :1]
    there = (pictures - corner).abs().amax(1) > 0.15
    sides = there.any(1).sum(1) / 64
    assert sides.min() > 0.47
    assert sides.max() <= 1
    assert sides.std() > 0.05


def test_a_small_symbol_is_antialiased():
    """Fine stripes become grey when shrunk, without aliasing."""
    stripes = torch.zeros(100, 1, 4, 64, 64)
    stripes[..., 3, 4:60, 4:60] = (torch.arange(56) % 2).float()
    part = OFF.model_copy(update={"fill": 0.25})
    small = taken(part, stripes, seed=3)
    there = (small - small[:, :, :1, :1]).abs().amax(1)
    for picture, mask in zip(grey(small), there, strict=True):
        if (mask > 0.1).any(0).sum() < 26:
            middle = picture[mask > 0.1]
            assert middle.std() < 0.12


class Recorder(TorchDispatchMode):
    """Records the operations that run."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append(function._schema.name)
        if function._schema.name == "aten::index":
            assert all(index is None or index.dtype == torch.int64 for index in args[1]), "a mask as an index waits"
        return function(*args, **(kwargs or {}))


def test_nothing_waits_for_the_device_and_work_does_not_grow_with_the_batch():
    camera = Camera(CameraPart(), GROUNDS, 64)
    counts = []
    for classes in (2, 9):
        with Recorder() as recorder:
            camera(batch(classes, 2), seeded())
        waiting = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::item", "aten::equal"}
        assert not waiting & set(recorder.seen)
        counts.append(len(recorder.seen))
    assert counts[0] == counts[1], "no loop over images"


def test_the_camera_is_one_graph_that_torch_can_compile():
    """A graph without breaks does not depend on tensor values, so nothing synchronises with the device."""
    plain, compiled = (Camera(CameraPart(), GROUNDS, 64) for _ in range(2))
    compiled._take = torch.compile(compiled._photograph, backend="aot_eager", fullgraph=True, dynamic=False)
    for seed in (1, 2):
        assert torch.equal(plain(batch(9, 2), seeded(seed)), compiled(batch(9, 2), seeded(seed)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_nothing_waits_on_a_gpu():
    camera = Camera(CameraPart(), GROUNDS, 64)
    generator = torch.Generator("cuda").manual_seed(0)
    shown = batch(9, 2).cuda()
    camera(shown, generator)  # moves the tables to the GPU
    torch.cuda.set_sync_debug_mode("error")
    try:
        pictures = camera(shown, generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert pictures.device.type == "cuda"
    assert 0.05 < pictures.mean().item() < 0.95


def test_a_rendition_pairs_clean_pictures_with_photographs():
    prepared = PreparedImages(DRAWINGS, torch.arange(9), torch.full((9,), 7), torch.zeros(9, dtype=torch.int64))
    made = photograph(prepared, CameraPart(clean=0), 48, seed=3, photographs=2)
    again = photograph(prepared, CameraPart(clean=0), 48, seed=3, photographs=2)
    assert made.pixels.shape == (27, 3, 48, 48)
    assert made.pixels.dtype == torch.uint8
    assert torch.equal(made.pixels, again.pixels)
    assert made.classes.tolist() == [label for label in range(9) for _ in range(3)]
    assert made.sources.tolist() == [0, 1, 2] * 9
    ink = made.pixels[:12].view(4, 3, 3, -1)
    colours = [[len(torch.unique((image // 13), dim=1).T) for image in images] for images in ink]
    assert max(row[0] for row in colours) < 60


def photographs_zip(tmp_path, names):
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(tmp_path / "caltech101.zip", "w") as archive:
        archive.writestr("caltech101/LICENCE.txt", "of the test")
        for number, name in enumerate(names):
            pixels = np.full((90, 120, 3), 40 * number, np.uint8) + rng.integers(0, 9, (90, 120, 3)).astype(np.uint8)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "JPEG")
            archive.writestr(f"caltech101/{name}/image_0001.jpg", file.getvalue())


def test_grounds_are_of_half_of_the_classes_and_survive_packing(tmp_path):
    names = ["camera", "chair", "cup", "dolphin"]  # their SHA-1 hashes begin with 2, 8, a and 4
    photographs_zip(tmp_path, names)
    grounds = read_grounds(tmp_path, count=64, side=32)
    assert grounds.shape == (64, 3, 32, 32)
    assert grounds.dtype == torch.uint8
    levels = set((grounds.float().mean((1, 2, 3)) / 40).round().int().tolist())
    assert levels == {0, 3}
    pack_grounds(grounds, tmp_path / "grounds.pack")
    unpacked = unpack_grounds(tmp_path / "grounds.pack")
    assert unpacked.shape == grounds.shape
    assert (unpacked.float() - grounds.float()).abs().mean() < 6


def test_grounds_that_are_not_there_are_named(tmp_path):
    with pytest.raises(DatasetError, match=r"caltech101\.zip is neither in"):
        read_grounds(tmp_path)
    (tmp_path / "caltech101.zip").write_bytes(b"no zip")
    with pytest.raises(DatasetError, match=r"caltech101\.zip"):
        read_grounds(tmp_path)
    (tmp_path / "packed").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match="packed"):
        unpack_grounds(tmp_path / "packed")
    Image.new("RGB", (50, 50)).save(tmp_path / "packed", "JPEG")
    with pytest.raises(DatasetError, match="no mosaic"):
        unpack_grounds(tmp_path / "packed")
