"""The training curve is kept beside the checkpoint, and a resumed run neither loses nor repeats a line."""

from __future__ import annotations

import torch

from testing.synthetic import TINY_RECIPE, write_tree
from training.fit import fit
from training.history import History, read_history
from training.loop import Progress
from training.recipe import load_recipe


def step(number, *, loss=1.0, error=None, steps=100, seconds=None):
    return Progress(number, steps, loss, number * 4, float(number if seconds is None else seconds), error, 0.001)


def test_a_line_holds_the_mean_loss_since_the_last(tmp_path):
    history = History(tmp_path, every=3)
    for number, loss in enumerate([1.0, 2.0, 6.0, 5.0, 3.0], 1):
        history(step(number, loss=loss, error=0.25 if number == 5 else None))
    looks = read_history(tmp_path)
    assert [(look.step, look.loss, look.error) for look in looks] == [(3, 3.0, None), (5, 4.0, 0.25)]
    assert looks[1].learning_rate == 0.001


def test_a_run_that_goes_on_drops_what_it_does_again(tmp_path):
    first = History(tmp_path, every=2)
    for number in range(1, 9):
        first(step(number))
    again = History(tmp_path, every=2)  # resumed from a checkpoint at step 4
    for number in range(5, 11):
        again(step(number, loss=7.0, seconds=number - 4))
    looks = read_history(tmp_path)
    assert [look.step for look in looks] == [2, 4, 6, 8, 10]
    assert [look.loss for look in looks] == [1.0, 1.0, 7.0, 7.0, 7.0]
    assert [look.seconds for look in looks] == [2, 4, 6, 8, 10]


def test_a_new_run_starts_a_new_record(tmp_path):
    for _ in range(2):
        history = History(tmp_path, every=1)
        history(step(1))
    assert len(read_history(tmp_path)) == 1
    assert read_history(tmp_path / "nowhere") == ()


def test_fitting_writes_it(tmp_path):
    tree = write_tree(tmp_path / "data")
    file = tmp_path / "tiny.toml"
    file.write_text(TINY_RECIPE.format(similarity="cosine", objective="matching"))
    told: list[int] = []
    with torch.random.fork_rng(devices=[]):
        fit(load_recipe(str(file)), tree, tmp_path / "out", listen=lambda progress: told.append(progress.step))
    looks = read_history(tmp_path / "out")
    assert told == list(range(1, 13))
    assert looks[-1].step == 12
    assert looks[-1].error is not None
    assert 0 <= looks[-1].error <= 1
