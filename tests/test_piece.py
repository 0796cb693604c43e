"""One run: what is kept already is not trained again, test images are for the end, and every number is what it says."""

import copy
import csv
import json

import numpy as np
import pytest
import torch

from reducenet import build, drop_branch, fit, fuse, macs, parameters
from reducenet.data import tensors
from reducenet.data.tensors import load
from reducenet.learn import evaluate, measure
from reducenet.learn.losses import kd
from reducenet.play import checkpoint, piece, timing, training
from reducenet.play.piece import fingerprints, play_piece
from reducenet.store import Store
from reducenet.words import MoveError, find, whole

ONE = {"fit": {"epochs": 1, "lr": 0.05}}
TEACHER, PLAIN = ({"build": {"block": block, "width": 4}} for block in ("scaler", "plain"))
QUIET = dict(epochs=1, lr=0.05, device="cpu", progress=False)


@pytest.fixture(autouse=True)
def _few_images(monkeypatch):
    """Two batches an epoch."""
    monkeypatch.setattr(piece, "load", lambda name: load(name).subset(256))


class Bench:
    """A store in a folder, and pieces played into it as a driver does."""

    def __init__(self, folder):
        self.folder, self.store, self.data = folder, Store(folder / "store"), load("synthetic").subset(256)

    def play(self, name, moves, **more):
        out = self.store.begin(name)
        made = play_piece(moves, store=str(self.store.folder), out=str(out), key=name, trained=f"{name}-net", **more)
        (out / "run.ipynb").write_text("{}")
        self.store.publish(name, out)
        return made

    def net(self, name):
        return checkpoint.load(self.store.entry(f"{name}-net") / "net.safetensors")


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


# ---- what is trained


def test_a_piece_is_what_the_calls_in_python_would_give(bench):
    bench.play("teacher", [TEACHER, ONE], seed=2)
    played = bench.play("student", ["drop_branch", ONE], seed=2, nth_fit=1, after="teacher-net")
    teacher = fit(build("scaler", width=4, num_classes=4, seed=2), bench.data, seed=2, **QUIET).net
    student = fit(drop_branch(teacher), bench.data, seed=2, nth_fit=1, **QUIET).net
    assert checkpoint.digest(bench.net("teacher")) == checkpoint.digest(teacher)
    assert checkpoint.digest(bench.net("student")) == checkpoint.digest(student) == played.trained["network"] == played.measured["network"]
    assert [next(iter(move)) for move in played.measured["sentence"]] == ["build", "fit", "drop_branch", "fit"]
    assert played.trained["sentence"] == checkpoint.chain_of(bench.store.entry("student-net") / "net.safetensors")
    assert {name: played.trained[name] for name in ("seed", "nth_fit", "after", "teacher")} == {
        "seed": 2, "nth_fit": 1, "after": "teacher-net", "teacher": "",
    }  # fmt: skip
    assert played.trained["moves"] == [whole("drop_branch"), whole(ONE)]


def test_who_teaches_is_not_who_comes_before(bench):
    for name, start in (("before", PLAIN), ("other", TEACHER)):
        bench.play(name, [start, ONE])
    moves = [{"fit": {"epochs": 1, "lr": 0.05, "loss": "kd", "teacher": "any"}}]
    played = bench.play("student", moves, nth_fit=1, after="before-net", teacher="other-net")
    before, other = bench.net("before"), bench.net("other")
    assert played.trained["network"] == checkpoint.digest(fit(before, bench.data, loss=kd(other), nth_fit=1, **QUIET).net)
    assert played.trained["network"] != checkpoint.digest(fit(before, bench.data, loss=kd(before), nth_fit=1, **QUIET).net)
    expected = measure.training_macs(before, (1, 12, 12), kd(other)) * 256
    assert played.measured["cost"]["train_macs"] == expected > measure.training_macs(before, (1, 12, 12), kd(before)) * 256


def test_every_seed_and_every_place_in_a_sentence_is_another_network(bench):
    networks = [bench.play(f"{seed}-{nth}", [PLAIN, ONE], seed=seed, nth_fit=nth).trained["network"] for seed in (0, 1) for nth in (0, 1)]
    assert len(set(networks)) == 4


def test_the_curve_is_kept_and_read_again(bench):
    played = bench.play("plain", [PLAIN, {"fit": {"epochs": 2, "lr": 0.05}}])
    _, rows = fit(build("plain", width=4, num_classes=4), bench.data, **QUIET | {"epochs": 2})
    for row, theirs in zip(played.curve, rows, strict=True):
        assert {**row, "seconds": 0} == {**theirs, "seconds": 0}
    with open(bench.store.entry("plain-net") / "curves.csv", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1"]
    assert bench.play("dropped", ["fuse"], after="plain-net").curve == []


def test_what_makes_no_sense_is_refused_before_anything_is_kept(bench):
    with pytest.raises(MoveError, match="fit: lr must be above 0, not 0"):
        bench.play("plain", [PLAIN, {"fit": {"epochs": 1, "lr": 0}}])
    with pytest.raises(MoveError, match="a sentence starts with build"):
        bench.play("plain", ["drop_branch"])
    assert bench.store.result("plain-net") is None


def test_threads_are_those_that_are_asked_for_and_cuda_is_asked_to_repeat_itself(bench, monkeypatch):
    played = bench.play("plain", [PLAIN], threads=2)
    assert torch.get_num_threads() == 2
    assert played.trained["environment"]["threads"] == 2
    asked = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda mode, warn_only: asked.append((mode, warn_only)))
    bench.play("again", [PLAIN])
    assert asked == []
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert bench.play("fast", [PLAIN], device="cuda").trained["environment"]["device"] == "a GPU"
    assert asked == [(True, True)]


# ---- what is measured


def test_accuracy_is_that_of_the_test_images_and_nowhere_else_are_they_looked_at(bench, monkeypatch):
    looked_at, correct = [], evaluate.correct
    monkeypatch.setattr(evaluate, "correct", lambda net, data, split: looked_at.append(split) or correct(net, data, split))
    played = bench.play("plain", [PLAIN, ONE])
    data = bench.data
    assert [split is not None and torch.equal(split.images, data.test.images) for split in looked_at].count(True) == 1
    assert torch.equal(looked_at[-1].images, data.test.images)
    net, metrics = bench.net("plain").eval(), played.measured["metrics"]
    hits = correct(net, data, data.test)
    assert metrics["test_accuracy"] == hits.double().mean().item() != correct(net, data, data.val).double().mean().item()
    assert metrics["val_accuracy"] == correct(net, data, data.val).double().mean().item() == played.trained["val_accuracy"]
    assert metrics["test_images"] == 128
    kept = np.unpackbits(np.load(bench.store.entry("plain") / "correct.npy"))[:128]
    assert kept.tolist() == hits.tolist()


def test_sizes_are_those_of_the_network_as_deployed(bench):
    metrics = bench.play("plain", [PLAIN, ONE]).measured["metrics"]
    net = bench.net("plain").eval()
    assert metrics["parameters"] == parameters(fuse(net)) < parameters(net)
    assert metrics["macs"] == macs(fuse(net), (1, 12, 12))
    assert metrics["move_error"] is None


def test_errors_are_what_deploying_changes_in_double_and_in_single_precision(bench, monkeypatch):
    probe = tensors.Split(bench.data.val.images[: piece.PROBE], bench.data.val.labels[: piece.PROBE])
    metrics = bench.play("plain", [PLAIN, ONE]).measured["metrics"]
    net = bench.net("plain").eval()
    assert metrics["fuse_error"] == evaluate.difference(net, fuse(copy.deepcopy(net).double()), bench.data, probe) < 1e-12
    assert metrics["rounding_error"] == evaluate.difference(net, fuse(net), bench.data, probe) > 1e-9
    real = piece.fuse

    def wrong(net, **options):
        fused = real(net, **options)
        fused.classifier.bias.data[0] += 0.5
        return fused

    monkeypatch.setattr(piece, "fuse", wrong)
    again = bench.play("wrong", [PLAIN, ONE]).measured["metrics"]
    assert again["fuse_error"] == pytest.approx(0.5)
    assert again["rounding_error"] == pytest.approx(0.5, abs=1e-5)


def test_networks_are_compared_on_the_first_validation_images(bench, monkeypatch):
    monkeypatch.setattr(piece, "PROBE", 10)
    monkeypatch.setattr(training, "PROBE", 20)
    asked, difference = [], evaluate.difference
    monkeypatch.setattr(evaluate, "difference", lambda a, b, data, split: asked.append(split) or difference(a, b, data, split))
    bench.play("plain", [PLAIN, "fuse"])
    assert len(asked) == 3  # an exact move, and deploying twice
    for split, count in zip(asked, (20, 10, 10), strict=True):
        assert torch.equal(split.images, bench.data.val.images[:count])
        assert len(split.labels) == count


# ---- what is kept is not trained again


def test_what_is_trained_already_is_measured_without_training(bench, monkeypatch):
    first = bench.play("plain", [PLAIN, ONE])
    monkeypatch.setattr(piece, "train", None)
    out = bench.store.begin("again")
    again = play_piece([PLAIN, ONE], store=str(bench.store.folder), out=str(out), key="again", trained="plain-net")
    assert again.trained == first.trained
    assert again.curve == first.curve
    assert again.measured["metrics"] == first.measured["metrics"]
    assert again.measured["key"] == "again"
    assert again.measured["fingerprints"] == first.measured["fingerprints"]
    assert again.measured["cost"]["train_macs"] == first.measured["cost"]["train_macs"]


def test_by_hand_nothing_is_needed_and_nothing_is_mixed_up(tmp_path):
    """Without keys and folders, as papermill calls it; in one store two different runs are two."""
    assert play_piece([PLAIN, ONE]).measured["status"] == "ok"
    one, two = (play_piece([PLAIN, ONE], seed=seed, store=str(tmp_path)).trained for seed in (0, 1))
    assert (one["seed"], two["seed"]) == (0, 1)
    assert one["network"] != two["network"]


def test_what_is_written_can_be_read_by_the_store(bench):
    bench.play("plain", [PLAIN, ONE])
    measured, trained = bench.store.result("plain"), bench.store.result("plain-net")
    assert (measured["kind"], trained["kind"]) == ("measured", "trained")
    assert measured["trained"] == trained["key"] == "plain-net"
    assert set(measured["outputs"]) == {"correct.npy"}
    assert set(trained["outputs"]) == {"net.safetensors", "curves.csv"}
    assert measured["environment"] == trained["environment"]
    assert set(trained["environment"]) == {"python", "torch", "processor", "instructions", "device", "threads", "peak_memory_mb"}
    assert trained["environment"]["torch"] == torch.__version__
    assert trained["environment"]["peak_memory_mb"] > 100


def test_a_training_that_diverges_is_a_result_without_a_network(bench):
    played = bench.play("wild", [PLAIN, {"fit": {"epochs": 3, "lr": 1e30}}])
    assert played.measured["status"] == played.trained["status"] == "diverged"
    assert played.measured["metrics"] == {}
    assert played.trained["network"] is None
    assert not (bench.store.entry("wild-net") / "net.safetensors").exists()
    assert played.measured["cost"]["epochs"] == len(played.curve) + 1
    assert played.measured["cost"]["train_macs"] == played.measured["cost"]["epochs"] * measure.training_macs(
        build("plain", width=4, num_classes=4), (1, 12, 12)
    ) * 256  # fmt: skip
    assert bench.store.result("wild")["status"] == "diverged"


# ---- what it costs


def test_training_costs_its_epochs_on_the_structure_that_was_trained(bench):
    plain = build("plain", width=4, num_classes=4)
    one = measure.training_macs(plain, (1, 12, 12)) * 256
    cost = bench.play("plain", [PLAIN, {"fit": {"epochs": 3, "lr": 0.05}}]).measured["cost"]
    assert (cost["train_macs"], cost["epochs"], cost["searched_macs"]) == (3 * one, 3, 0)
    assert cost["seconds"] > cost["train_seconds"] > 0
    assert bench.play("fused", ["fuse"], after="plain-net").measured["cost"]["train_macs"] == 0
    frozen = bench.play("frozen", [{"freeze": "stage1.*"}, ONE], after="plain-net").measured["cost"]
    assert frozen["train_macs"] < one


def test_a_loss_that_draws_costs_its_mean_over_the_steps_it_asks_for(bench, monkeypatch):
    counted, named, named_loss = [], [], training.named_loss
    monkeypatch.setattr(training, "named_loss", lambda *given, **own: named.append(given) or named_loss(*given, **own))
    monkeypatch.setattr(measure, "training_macs", lambda net, shape, objective, steps: counted.append(steps) or 7)
    played = bench.play("wide", [TEACHER, {"fit": {"epochs": 1, "lr": 0.05, "loss": "netaug"}}], seed=1)
    assert played.measured["cost"]["train_macs"] == 7 * 256
    assert counted == [find("loss", "netaug").options["steps"]]
    assert named == [("netaug", 1)]


def test_what_is_searched_and_tuned_is_paid_for(bench):
    bench.play("plain", [PLAIN, ONE])
    tuned = bench.play("tuned", [{"recalibrate": {"images": 200}}], after="plain-net").measured["cost"]
    assert tuned["train_macs"] == tuned["searched_macs"] == 200 * macs(bench.net("plain").eval(), (1, 12, 12))
    both = bench.play("both", [{"recalibrate": {"images": 200}}, ONE], after="plain-net").measured["cost"]
    assert both["train_macs"] == tuned["searched_macs"] + bench.store.result("plain")["cost"]["train_macs"]


def test_the_cost_of_others_buys_epochs(bench):
    """All that they cost together, to half an epoch, and one epoch at least."""
    bench.play("teacher", [TEACHER, {"fit": {"epochs": 2, "lr": 0.05}}])
    bench.play("student", ["drop_branch", ONE], nth_fit=1, after="teacher-net")
    spent = [bench.store.result(name)["cost"]["train_macs"] for name in ("teacher", "student")]
    one = measure.training_macs(build("plain", width=4, num_classes=4), (1, 12, 12)) * 256
    moves = [PLAIN, {"fit": {"cost_of": "student", "lr": 0.05}}]
    assert bench.play("long", moves, paid_by=["teacher", "student"]).measured["cost"]["epochs"] == round(sum(spent) / one) > 3
    assert bench.play("short", moves, paid_by=["student"]).measured["cost"]["epochs"] == round(spent[1] / one) == 1
    bench.play("free", ["fuse"], after="student-net")
    assert bench.play("least", moves, paid_by=["free"]).measured["cost"]["epochs"] == 1


def test_the_best_ticket_goes_on_and_those_that_diverged_are_blanks(bench):
    for seed in (0, 1, 2):
        bench.play(f"{seed}", [PLAIN, ONE], seed=seed)
    bench.play("wild", [PLAIN, {"fit": {"epochs": 3, "lr": 1e30}}])
    tickets = ["wild-net", *(f"{seed}-net" for seed in (0, 1, 2))]
    played = bench.play("best", [{"best_of": {"arm": "plain", "tickets": 4}}], tickets=tickets)
    accuracies = {key: bench.store.result(key)["val_accuracy"] for key in tickets[1:]}
    best = max(accuracies, key=accuracies.get)
    assert played.trained["network"] == bench.store.result(best)["network"]
    assert played.trained["val_accuracy"] == max(accuracies.values())
    assert played.trained["sentence"] == bench.store.result(best)["sentence"]


# ---- what whoever plays it again compares


def test_fingerprints_tell_what_was_trained_counted_and_measured_apart():
    trained = {"status": "ok", "network": "n", "val_accuracy": 0.5, "sentence": [{"reinit": {"at": "classifier", "orthogonal": True}}]}
    metrics = {"test_accuracy": 0.5, "parameters": 7, "macs": 8, "fuse_error": 0.0}
    cost = {"epochs": 1, "searched_macs": 2, "train_macs": 3, "train_seconds": 4.0}
    before = fingerprints(trained, metrics, cost)
    assert set(before) == {"train", "count", "measure"}
    assert all(len(part) == 8 and int(part, 16) >= 0 for part in before.values())

    def differ(changed_trained=None, changed_metrics=None, changed_cost=None):
        after = fingerprints(trained | (changed_trained or {}), metrics | (changed_metrics or {}), cost | (changed_cost or {}))
        return {part for part in before if before[part] != after[part]}

    for change in ({"status": "diverged"}, {"network": "m"}, {"val_accuracy": 0.25}, {"sentence": [{"fuse": {}}]}):
        assert differ(change) == {"train"}
    assert differ(None, None, {"epochs": 2}) == {"train"}
    for change in ({"parameters": 9}, {"macs": 9}):
        assert differ(None, change) == {"count"}
    for change in ({"searched_macs": 9}, {"train_macs": 9}):
        assert differ(None, None, change) == {"count"}
    for change in ({"test_accuracy": 0.25}, {"fuse_error": 1e-3}, {"new": 1}):
        assert differ(None, change) == {"measure"}
    assert differ({"sentence": [{"reinit": {"at": "classifier", "orthogonal": False}}]}) == {"train"}
    assert differ(None, None, {"train_seconds": 9.0}) == set()  # a clock is no number of the run
    short, long = (
        [{"reinit": {"at": "classifier"} | more}] for more in ({}, {"orthogonal": False})
    )  # before it had the parameter, and after
    assert fingerprints(trained | {"sentence": short}, metrics, cost) == fingerprints(trained | {"sentence": long}, metrics, cost)
    assert json.dumps(before)


def test_a_run_played_again_has_the_same_fingerprints(bench):
    one = bench.play("one", [PLAIN, ONE]).measured["fingerprints"]
    two = bench.play("two", [PLAIN, ONE]).measured["fingerprints"]
    other = bench.play("three", [PLAIN, ONE], seed=1).measured["fingerprints"]
    assert one == two
    assert one["count"] == other["count"]
    assert one["train"] != other["train"]
    assert one["measure"] != other["measure"]


# ---- how fast it is


def test_arms_are_timed_in_turns_as_they_are_deployed(bench, monkeypatch):
    """A slow moment of the machine meets all of them, and the median passes over it."""
    bench.play("plain", [PLAIN])
    bench.play("wide", [TEACHER])
    asked, medians = [], iter([*[1.0] * 4, *[9.0] * 4, *[1.0, 2.0, 3.0, 4.0] * 3])
    monkeypatch.setattr(timing, "latency", lambda net, *how, seconds: asked.append((parameters(net), *how)) or {"median": next(medians)})
    out = bench.store.begin("timed")
    where = dict(data="synthetic", store=str(bench.store.folder), out=str(out))
    found = timing.time_arms({"a": "plain-net", "b": "wide-net"}, key="timed", threads=2, **where)
    small, large = (parameters(fuse(bench.net(name).eval())) for name in ("plain", "wide"))
    turn = [(size, (1, 12, 12), batch, 2) for batch in (1, 64) for size in (small, large)]
    assert asked == turn * 5
    assert found == {"a": {"1": 1.0, "64": 3.0}, "b": {"1": 2.0, "64": 4.0}}
    (out / "run.ipynb").write_text("{}")
    bench.store.publish("timed", out)
    result = bench.store.result("timed")
    assert (result["kind"], result["latency"], result["threads"]) == ("timed", found, 2)
    assert torch.get_num_threads() == 2


def test_arms_that_are_deployed_alike_are_timed_as_one(bench, monkeypatch):
    bench.play("plain", [PLAIN])
    bench.play("other", [PLAIN], seed=1)
    bench.play("dropped", [TEACHER, "drop_branch"])
    bench.play("wide", [TEACHER])
    bench.play("narrow", [{"build": {"block": "plain", "width": 5}}])
    asked = []
    monkeypatch.setattr(timing, "latency", lambda net, *how, seconds: asked.append(net) or {"median": float(parameters(net))})
    arms = {name: f"{name}-net" for name in ("plain", "other", "dropped", "wide", "narrow")}
    where = dict(data="synthetic", store=str(bench.store.folder), out=str(bench.store.begin("timed")), key="timed", threads=1)
    found = timing.time_arms(arms, **where)
    assert len(asked) == 3 * 2 * 5
    assert found == {name: dict.fromkeys(("1", "64"), float(parameters(fuse(bench.net(name).eval())))) for name in arms}
