"""Replicates trained together against `fit`, one by one: the readable reference."""

import pytest
import torch

from reducenet import DivergedError, MoveError, attach, build, drop_branch, fit, fit_replicates, freeze, load_data
from reducenet.play.checkpoint import digest

QUIET = dict(device="cpu", progress=False)


@pytest.fixture(scope="module")
def data():
    return load_data("synthetic").subset(320)  # ten steps of 32


def nets(seeds, block="plain", **more):
    return [build(block, width=4, num_classes=4, seed=seed, **more) for seed in seeds]


def apart(nets, data, seeds, **how):
    return [fit(net, data, seed=seed, **how, **QUIET) for net, seed in zip(nets, seeds, strict=True)]


def gap(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max((a.double() - b.double()).abs().max().item() for a, b in pairs)


SEEDS = (3, 8, 5)
TRAININGS = {
    "plain": (lambda: nets(SEEDS), {}),
    "scaler": (lambda: nets(SEEDS, "scaler", expansion=2), {}),
    "sliding": (lambda: nets(SEEDS, "lambda"), {"slide": "linear", "slide_until": 0.5, "lr": 0.005}),
    "frozen": (lambda: [freeze(net, ["classifier", "bn.statistics"]) for net in nets(SEEDS)], {}),
    "side": (lambda: [attach(freeze(net, "all")) for net in nets(SEEDS)], {"lr": 0.02}),
    "smoothed": (lambda: nets(SEEDS), {"loss": "smoothed", "smoothing": 0.2, "nth_fit": 2, "schedule": "cosine", "momentum": 0.0}),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_together_is_as_apart_over_ten_steps(data, name):
    made, how = TRAININGS[name]
    start, how = made(), dict(epochs=1, batch=32, lr=0.05) | how
    together, alone = fit_replicates(start, data, seeds=SEEDS, **how, **QUIET), apart(start, data, SEEDS, **how)
    for one, other in zip(together, alone, strict=True):
        assert gap(one.net, other.net) < 2e-4
        (row,), (reference,) = one.rows, other.rows
        assert row.keys() == reference.keys()
        assert row["train_loss"] == pytest.approx(reference["train_loss"], abs=1e-4)
        assert row["lr"] == reference["lr"]
        assert abs(row["val_accuracy"] - reference["val_accuracy"]) <= 1 / len(data.val.labels)
        assert not one.net.training
    assert gap(together[0].net, together[1].net) > 1e-3  # each its own
    assert [digest(net) for net in start] == [digest(net) for net in made()]  # what was handed in stays


def test_each_has_its_own_teacher(data):
    teachers = nets((1, 2), "scaler", expansion=2)
    start = [drop_branch(teacher) for teacher in teachers]
    how = dict(epochs=1, batch=32, lr=0.05, loss="kd", temperature=2.0)
    together = fit_replicates(start, data, seeds=(1, 2), teacher=tuple(teachers), **how, **QUIET)
    for one, net, teacher, seed in zip(together, start, teachers, (1, 2), strict=True):
        assert gap(one.net, fit(net, data, seed=seed, teacher=teacher, **how, **QUIET).net) < 2e-4
    shared = fit_replicates(start, data, seeds=(1, 2), teacher=teachers[0], **how, **QUIET)
    assert gap(shared[0].net, together[0].net) == 0
    assert gap(shared[1].net, together[1].net) > 1e-4


def test_it_is_the_same_again_and_its_group_is_what_it_depends_on(data):
    how = dict(epochs=2, batch=32, lr=0.05)
    one, two = (fit_replicates(nets(SEEDS), data, seeds=SEEDS, **how, **QUIET) for _ in range(2))
    assert [digest(fitted.net) for fitted in one] == [digest(fitted.net) for fitted in two]
    assert [len(fitted.rows) for fitted in one] == [2, 2, 2]


def test_one_that_diverges_is_reported_and_the_others_go_on(data):
    start = nets((0, 1))
    start[0].classifier.weight.data.fill_(float("nan"))
    bad, good = fit_replicates(start, data, seeds=(0, 1), epochs=2, batch=32, lr=0.05, **QUIET)
    assert isinstance(bad, DivergedError)
    assert bad.rows == []
    (reference,) = apart(start[1:], data, (1,), epochs=2, batch=32, lr=0.05)
    assert len(good.rows) == 2
    assert gap(good.net, reference.net) < 1e-3


def test_all_that_diverge_end_it(data):
    start = nets((0, 1))
    for net in start:
        net.classifier.weight.data.fill_(float("nan"))
    found = fit_replicates(start, data, seeds=(0, 1), epochs=50, batch=32, **QUIET)
    assert all(isinstance(one, DivergedError) for one in found)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda data: fit_replicates(nets((0, 1)), data, seeds=(0,), epochs=1, **QUIET), "2 networks and 1 seeds"),
        (lambda data: fit_replicates([*nets((0,)), *nets((1,), "scaler")], data, seeds=(0, 1), epochs=1, **QUIET), "other parts"),
        (lambda data: fit_replicates([freeze(n, "all") for n in nets((0, 1))], data, seeds=(0, 1), epochs=1, **QUIET), "is frozen"),
        (
            lambda data: fit_replicates(nets((0, 1)), data, seeds=(0, 1), epochs=1, loss="hints", teacher=nets((0,))[0], **QUIET),
            "reads more of a network than its logits",
        ),
        (lambda data: fit_replicates(nets((0, 1), in_channels=3), data, seeds=(0, 1), epochs=1, **QUIET), "takes no images"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(data, call, message):
    with pytest.raises(MoveError, match=message) as caught:
        call(data)
    assert "\n" not in str(caught.value)


def test_gradients_are_those_of_each(data):
    """A replicate whose loss is large does not pull at the other."""
    start = nets((0, 1))
    with torch.no_grad():
        start[1].classifier.weight.mul_(100)
    how = dict(epochs=1, batch=32, lr=1e-3)
    together, alone = fit_replicates(start, data, seeds=(0, 1), **how, **QUIET), apart(start, data, (0, 1), **how)
    assert gap(together[0].net, alone[0].net) < 1e-5
