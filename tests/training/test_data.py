"""The Omniglot reader, trials and batches, on a synthetic data set and, if available, on the real one."""

from __future__ import annotations

import hashlib
import http.server
import os
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.manifest import PreprocessSpec
from model.preprocess import Preprocess
from testing.synthetic import ALPHABETS, DRAWERS, write_tree, zip_tree
from training.data import omniglot
from training.data.labelled import DatasetError, prepare
from training.data.omniglot import download_omniglot, read_omniglot, read_runs
from training.episodes import any_class_trials, free_trials, judge, judge_trials, within_group_trials
from training.evaluate import judge_comparisons, judge_runs
from training.hausdorff import modified_hausdorff
from training.recipe import SamplerPart
from training.samplers import ClassSampler
from training.verification import balanced_pairs


def digest(data):
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("omniglot"))


@pytest.fixture(scope="module")
def prepared(tree):
    return prepare(read_omniglot(tree, "background"), Preprocess(PreprocessSpec(size=12)))


def test_folder_and_zip_read_alike(tree, tmp_path):
    zipped = zip_tree(tree / "images_background").rename(tmp_path / "images_background.zip")
    assert zipped.exists()
    folder, archive = read_omniglot(tree, "background"), read_omniglot(tmp_path, "background")
    assert folder.class_names == archive.class_names
    assert list(folder.classes) == list(archive.classes)
    assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(folder.images, archive.images, strict=True))


def test_groups_are_split_without_a_shared_class(tree):
    images = read_omniglot(tree, "background")
    held_out, rest = images.in_groups(["Beta"]), images.without_groups(["Beta"])
    assert len(images.images) == sum(ALPHABETS.values()) * DRAWERS
    assert held_out.group_names == ["Beta"]
    assert len(held_out.class_names) == ALPHABETS["Beta"]
    assert not set(held_out.class_names) & set(rest.class_names)
    assert len(held_out.images) + len(rest.images) == len(images.images)
    assert sorted(set(rest.classes)) == list(range(len(rest.class_names)))
    with pytest.raises(DatasetError, match=r"Delta.*Alpha, Beta, Gamma"):
        images.without_groups(["Delta"])


def test_trials_obey_the_protocol(prepared):
    trials = within_group_trials(prepared, n_way=20, n_trials=500, seed=0)
    classes, sources = prepared.classes.numpy(), prepared.sources.numpy()
    groups = prepared.groups.numpy()[classes]
    rows = np.arange(500)
    assert (classes[trials.supports[rows, trials.answers]] == classes[trials.queries]).all()
    assert (trials.supports[rows, trials.answers] != trials.queries).all()
    assert all(len(set(classes[way])) == 20 for way in trials.supports)
    assert (groups[trials.supports] == trials.groups[:, None]).all()
    assert all(len(set(sources[way])) == 1 for way in trials.supports)
    assert (sources[trials.supports[:, 0]] != sources[trials.queries]).all()
    spread = np.bincount(trials.answers, minlength=20)
    assert spread.min() > 5, "the answer's position is shuffled"
    again = within_group_trials(prepared, n_way=20, n_trials=500, seed=0)
    assert np.array_equal(again.supports, trials.supports)


def test_an_alphabet_of_exactly_n_classes_will_do(prepared):
    trials = within_group_trials(prepared, n_way=21, n_trials=100, seed=0)
    assert all(len(set(prepared.classes.numpy()[way])) == 21 for way in trials.supports)


def test_trials_that_are_impossible(prepared):
    with pytest.raises(DatasetError, match="one has 21"):
        within_group_trials(prepared, n_way=22, n_trials=1, seed=0)


def test_a_constant_model_is_never_right(prepared):
    trials = within_group_trials(prepared, n_way=20, n_trials=100, seed=0)
    assert judge_trials("l2", np.ones((len(prepared.classes), 3), np.float32), trials).sum() == 0


def test_a_random_model_is_right_once_in_n(prepared):
    trials = within_group_trials(prepared, n_way=20, n_trials=3000, seed=0)
    vectors = np.random.default_rng(0).normal(size=(len(prepared.classes), 8)).astype(np.float32)
    assert judge_trials("l2", vectors, trials).mean() == pytest.approx(1 / 20, abs=0.015)


def test_ties_are_wrong():
    supports = torch.tensor([[[0.0, 1.0], [0.0, 1.0], [5.0, 5.0]], [[0.0, 1.0], [0.5, 1.0], [5.0, 5.0]]])
    queries = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    assert judge("l2", supports, queries, torch.tensor([0, 0])).tolist() == [False, True]
    assert judge("l2", supports, queries, torch.tensor([1, 1])).tolist() == [False, False]


def test_batches_are_made_of_whole_classes(prepared):
    sampler = ClassSampler(prepared, SamplerPart(classes=30, images=3), rotations=True)
    batch = sampler.draw(torch.Generator().manual_seed(0))
    assert batch.images.shape == (30, 3, 1, 12, 12)
    assert len(set(batch.classes.tolist())) == 30
    assert sampler.n_classes == 4 * prepared.n_classes
    for images, label in zip(batch.images, batch.classes.tolist(), strict=True):
        turn, base = divmod(label, prepared.n_classes)
        members = torch.rot90(prepared.pixels[prepared.classes == base], turn, (2, 3)).float() / 255
        chosen = [int((members == image).flatten(1).all(1).nonzero()[0]) for image in images]
        assert len(set(chosen)) == 3


def test_an_alphabet_is_turned_as_a_whole(prepared):
    sampler = ClassSampler(prepared, SamplerPart(classes=24), rotations=True)
    for seed in range(10):
        classes = sampler.draw(torch.Generator().manual_seed(seed)).classes
        turns, bases = classes // prepared.n_classes, classes % prepared.n_classes
        for group in prepared.groups.unique():
            assert len(set(turns[prepared.groups[bases] == group].tolist())) <= 1


def test_a_batch_is_of_few_alphabets_or_spread_over_more(prepared):
    def counts(groups):
        sampler = ClassSampler(prepared, SamplerPart(classes=21, groups=groups))
        found = sampler.draw(torch.Generator().manual_seed(0)).classes
        return sorted(torch.bincount(prepared.groups[found], minlength=3).tolist())

    assert counts(None) == [0, 0, 21]
    assert counts(2) == [0, 10, 11]
    assert counts(3) == [7, 7, 7]
    with pytest.raises(DatasetError, match="there are 66 to draw"):
        ClassSampler(prepared, SamplerPart(classes=67, groups=3))


@pytest.mark.parametrize(("classes", "images", "message"), [(1000, 2, "there are 67"), (5, 9, "has 6 images")])
def test_batches_that_are_impossible(prepared, classes, images, message):
    with pytest.raises(DatasetError, match=message):
        ClassSampler(prepared, SamplerPart(classes=classes, images=images))


def test_missing_and_broken_data(tmp_path):
    with pytest.raises(DatasetError, match="neither"):
        read_omniglot(tmp_path, "background")
    (tmp_path / "images_background.zip").write_bytes(b"no zip")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_omniglot(tmp_path, "background")
    (tmp_path / "images_evaluation" / "A" / "character01").mkdir(parents=True)
    with pytest.raises(DatasetError, match="holds no image"):
        read_omniglot(tmp_path, "evaluation")
    (tmp_path / "images_evaluation" / "A" / "character01" / "0001_01.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"0001_01.png"):
        read_omniglot(tmp_path, "evaluation")


def test_download_checks_the_published_digest(tmp_path, monkeypatch):
    site = tmp_path / "site"
    site.mkdir()
    (site / "images_background.zip").write_bytes(b"content")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(omniglot, "OFFICIAL_MD5", {"images_background.zip": digest(b"other")})
        with pytest.raises(DatasetError, match="MD5"):
            download_omniglot(tmp_path / "kept", address)
        assert not list((tmp_path / "kept").iterdir())
        monkeypatch.setattr(omniglot, "OFFICIAL_MD5", {"images_background.zip": digest(b"content")})
        (file,) = download_omniglot(tmp_path / "kept", address)
        assert file.read_bytes() == b"content"
        server.shutdown()
    assert download_omniglot(tmp_path / "kept", address) == [file]  # complete, so not fetched again
    file.unlink()
    with pytest.raises(DatasetError, match="cannot be downloaded"):
        download_omniglot(tmp_path / "kept", address)


needs_data = pytest.mark.skipif("ONESHOT_DATASETS" not in os.environ, reason="ONESHOT_DATASETS names no data")


@needs_data
def test_the_real_tree():
    root = Path(os.environ["ONESHOT_DATASETS"])
    images = read_omniglot(root, "evaluation")
    assert (len(images.group_names), len(images.class_names)) == (20, 659)
    assert len(images.images) == 659 * 20
    assert images.images[0].size == (105, 105)


def ink(images):
    return np.stack([(np.asarray(image) < 128).astype(np.float32).ravel() for image in images])


def unit_ink(images):
    return ink(images) / np.linalg.norm(ink(images), axis=1, keepdims=True)


def flat_ink(images):
    return np.ones((len(images), 4), np.float32)


@pytest.fixture(scope="module")
def runs():
    return read_runs(Path(os.environ["ONESHOT_DATASETS"]))


@needs_data
def test_the_harness_counts_what_is_known_of_raw_pixels(runs):
    """Cosine on ink makes 313 errors in the official 20 runs, Euclidean distance 324: reference values."""
    assert judge_runs(runs, unit_ink, "cosine").size == 400
    assert (~judge_runs(runs, unit_ink, "cosine")).sum() == 313
    assert (~judge_runs(runs, ink, "l2")).sum() == 324


@needs_data
def test_the_official_runs_reward_no_constant_and_no_place(runs):
    assert judge_runs(runs, flat_ink, "l2").sum() == 0, "all ties"
    first = judge_comparisons(runs, lambda queries, supports: np.tile(np.arange(20.0), (len(queries), 1)))
    assert first.mean() == pytest.approx(1 / 20), "always the first support: the answer is anywhere"


@needs_data
@pytest.mark.slow
def test_the_harness_counts_what_is_known_of_the_modified_hausdorff_distance(runs):
    """155 errors of 400, the baseline of Omniglot's demo."""
    assert (~judge_comparisons(runs, modified_hausdorff)).sum() == 155


@needs_data
def test_the_first_official_runs_by_the_modified_hausdorff_distance(runs):
    """The same count on the first two runs only, which takes a second."""
    assert (~judge_comparisons(runs[:2], modified_hausdorff)).sum() == 16


def test_the_modified_hausdorff_distance_by_hand():
    def drawn(*points):
        pixels = np.full((20, 20), 255, np.uint8)
        for row, column in points:
            pixels[row, column] = 0
        return Image.fromarray(pixels)

    one, moved, longer = drawn((5, 5), (5, 7)), drawn((9, 11), (9, 13)), drawn((5, 4), (5, 6), (5, 8))
    found = modified_hausdorff([one], [one, moved, longer])
    # Centred columns: -1, 1 against -2, 0, 2. Every point's nearest neighbour is at distance 1.
    assert found.tolist() == [[0.0, 0.0, 1.0]]
    assert modified_hausdorff([drawn((0, 0))], [drawn((3, 0), (9, 0))])[0, 0] == pytest.approx(3)


def test_trials_of_images_whose_sources_differ(prepared):
    trials = free_trials(prepared, n_way=30, n_trials=400, seed=0)
    classes, rows = prepared.classes.numpy(), np.arange(400)
    assert (classes[trials.supports[rows, trials.answers]] == classes[trials.queries]).all()
    assert not (trials.supports == trials.queries[:, None]).any()
    assert all(len(set(classes[way])) == 30 for way in trials.supports)
    assert len(set(trials.answers.tolist())) == 30, "the answer's position is shuffled"
    assert judge_trials("l2", np.ones((len(classes), 3), np.float32), trials).sum() == 0
    vectors = np.random.default_rng(0).normal(size=(len(classes), 8)).astype(np.float32)
    assert judge_trials("l2", vectors, trials).mean() == pytest.approx(1 / 30, abs=0.03)
    with pytest.raises(DatasetError, match="there are 67"):
        free_trials(prepared, n_way=68, n_trials=1, seed=0)


def test_trials_over_all_alphabets(prepared):
    trials = within_group_trials(prepared, n_way=40, n_trials=100, seed=0, within=False)
    classes, sources = prepared.classes.numpy(), prepared.sources.numpy()
    assert all(len(set(classes[way])) == 40 for way in trials.supports)
    assert all(len(set(prepared.groups.numpy()[classes[way]])) > 1 for way in trials.supports)
    assert (sources[trials.supports[:, 0]] != sources[trials.queries]).all()


def test_draws_of_digits_reward_no_constant_and_no_place(prepared):
    trials = any_class_trials(prepared, n_draws=40, n_queries=50, seed=0)
    assert judge_trials("l2", np.ones((len(prepared.classes), 3), np.float32), trials).sum() == 0
    assert (trials.answers == 0).mean() == pytest.approx(1 / prepared.n_classes, abs=0.02)


def test_draws_of_all_classes_have_one_support_each_and_never_the_query(prepared):
    trials = any_class_trials(prepared, n_draws=7, n_queries=20, seed=0)
    classes = prepared.classes.numpy()
    rows = np.arange(140)
    assert (np.sort(classes[trials.supports], axis=1) == np.arange(prepared.n_classes)).all()
    assert (classes[trials.supports[rows, trials.answers]] == classes[trials.queries]).all()
    assert not (trials.supports == trials.queries[:, None]).any()
    assert len({tuple(way) for way in classes[trials.supports]}) == 7, "the order is shuffled for each draw"
    assert np.bincount(trials.groups).tolist() == [20] * 7


@pytest.mark.parametrize("within", [True, False])
def test_pairs_are_balanced_and_by_two_drawers(prepared, within):
    pairs = balanced_pairs(prepared, n_pairs=400, within=within, seed=0)
    classes, sources = prepared.classes.numpy()[pairs.images], prepared.sources.numpy()[pairs.images]
    groups = prepared.groups.numpy()[classes]
    assert pairs.same.sum() == 200
    assert ((classes[:, 0] == classes[:, 1]) == pairs.same).all()
    assert (sources[:, 0] != sources[:, 1]).all()
    assert (groups[:, 0] == groups[:, 1]).all() == within


@pytest.mark.parametrize("within", [True, False])
def test_pairs_reward_no_constant_and_no_place(prepared, within):
    pairs = balanced_pairs(prepared, n_pairs=400, within=within, seed=0)
    assert pairs.same.mean() == 0.5, "whoever always says the same is right half of the time"
    assert not (pairs.images[:, 0] == pairs.images[:, 1]).any(), "no image is compared with itself"
    assert np.unique(pairs.images[pairs.same]).size > 250
