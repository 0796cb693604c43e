"""The one interpreter of sentences: with data all is done, without only what shapes a network."""

import pytest
import torch
from torch import nn

from reducenet import build, drop_branch, fit, fold, freeze, fuse, linearise, loosen, settle
from reducenet.data.tensors import Split, load
from reducenet.learn import batchnorm
from reducenet.learn.train import Fitted
from reducenet.methods import layerfolding, ridge
from reducenet.nets.activation import LambdaReLU
from reducenet.play import play as interpreter
from reducenet.play.checkpoint import digest
from reducenet.play.play import Bench, play
from reducenet.words import MoveError, whole

TEACHER = {"build": {"block": "scaler", "width": 4, "expansion": 2, "num_classes": 4}}
PLAIN = {"build": {"block": "plain", "width": 4, "num_classes": 4}}
ONE = {"fit": {"epochs": 1, "lr": 0.05}}


@pytest.fixture(scope="module")
def data():
    return load("synthetic").subset(256)


@pytest.fixture
def bench(data):
    return Bench(data, probe=Split(*(t[:32] for t in data.val)))


def play_all(sentence, bench, **more):
    """As a run does it: every move whole, and of the build what the data does not say."""
    moves = [{"build": {k: v for k, v in m["build"].items() if k != "num_classes"}} if "build" in m else m for m in sentence]
    return play([whole(move) for move in moves], bench, **more)


# ---- what is a sentence


@pytest.mark.parametrize(
    ("sentence", "message"),
    [
        ([], "the sentence is empty"),
        (["drop_branch"], "a sentence starts with build or vanillanet or best_of, not with drop_branch"),
        ([PLAIN, "drop_brunch"], r"unknown move 'drop_brunch' \(did you mean 'drop_branch'\?\)"),
        ([PLAIN, PLAIN], "a sentence has one build or vanillanet or best_of, at its start"),
        ([PLAIN, {"fold": 3}], "fold: takes no parameters, not 3"),
        ([TEACHER, {"search_width": 0.5}], "search_width: what it decides is not known before it has data"),
        ([{"best_of": {"arm": "plain", "tickets": 2}}], "best_of: which one is chosen is not known before they are trained"),
    ],
)
def test_what_is_no_sentence(sentence, message):
    with pytest.raises(MoveError, match=f"^{message}"):
        play(sentence)


def test_a_sentence_that_goes_on_has_no_start():
    net = build("plain", width=4)
    with pytest.raises(MoveError, match="a sentence has one build"):
        play([PLAIN], net=net)
    assert play([], net=net, before=[PLAIN]).sentence == [PLAIN]


# ---- structure only


def test_without_a_bench_what_trains_is_passed_over_and_the_rest_is_played():
    sentence = [TEACHER, {"fit": {"epochs": 3}}, "drop_branch", {"recalibrate": {}}, {"freeze": "classifier"}, {"ridge": {"teacher": "t"}}]
    played = play(sentence, seed=3)
    assert digest(played.net) == digest(freeze(drop_branch(build("scaler", width=4, expansion=2, num_classes=4, seed=3)), "classifier"))
    assert not played.net.classifier.weight.requires_grad
    assert [next(iter(move)) for move in played.sentence] == ["build", "fit", "drop_branch", "recalibrate", "freeze", "ridge"]
    assert played.sentence[4] == {"freeze": {"parts": "classifier"}}
    assert (played.epochs, played.searched_macs, played.rows, played.move_error, played.diverged) == (0, 0, [], None, False)


def test_without_a_bench_a_slide_is_at_its_end_so_that_a_fuse_can_follow():
    slid = [{"build": {"block": "lambda", "width": 4}}, {"fit": {"epochs": 1, "slide": "linear", "slide_until": 0.5}}]
    assert {m.lam.item() for m in play(slid).net.modules() if isinstance(m, LambdaReLU)} == {1.0}
    assert not any(isinstance(m, LambdaReLU) for m in play([*slid, "fuse"]).net.modules())
    still = play([slid[0], {"fit": 1}]).net
    assert {m.lam.item() for m in still.modules() if isinstance(m, LambdaReLU)} == {0.0}


def test_a_move_gets_a_network_in_eval_mode_and_the_seed_of_the_run():
    net = play([TEACHER, "drop_branch", "attach"], seed=5).net
    assert digest(net) == digest(play(["attach"], net=play([TEACHER, "drop_branch"], seed=5).net, seed=5).net)
    assert digest(net) != digest(play(["attach"], net=play([TEACHER, "drop_branch"], seed=5).net, seed=6).net)
    started = build("plain", width=4).train()
    play([{"reinit": {}}], net=started)
    assert not started.training


# ---- with data


def test_the_sentence_is_trained_as_the_calls_in_python_would(data, bench):
    """Seed and number of the fit fix what each sees; the network handed on is the trained one."""
    played = play_all([TEACHER, ONE, "drop_branch", {"freeze": "classifier"}, ONE], bench, seed=4)
    net = build("scaler", width=4, expansion=2, num_classes=4, seed=4)
    quiet = dict(epochs=1, lr=0.05, seed=4, device="cpu", progress=False)
    teacher = fit(net, data, **quiet, nth_fit=0).net
    student, rows = fit(freeze(drop_branch(teacher), "classifier"), data, **quiet, nth_fit=1)
    assert digest(played.net) == digest(student)
    assert [row["val_accuracy"] for row in played.rows] == [row["val_accuracy"] for row in rows]
    assert played.epochs == 2
    assert played.seconds > 0
    assert played.searched_macs == 0
    assert digest(student) != digest(fit(freeze(drop_branch(teacher), "classifier"), data, **quiet, nth_fit=0).net)


def test_a_sentence_cut_after_a_fit_goes_on_as_if_it_had_not_been_cut(bench):
    whole_one = play_all([TEACHER, ONE, "drop_branch", ONE], bench, seed=1)
    first = play_all([TEACHER, ONE], bench, seed=1)
    second = play_all(["drop_branch", ONE], bench, net=first.net, before=first.sentence, seed=1, nth_fit=1)
    assert digest(second.net) == digest(whole_one.net)
    assert second.sentence == whole_one.sentence
    assert digest(second.net) != digest(play_all(["drop_branch", ONE], bench, net=first.net, seed=1, nth_fit=0).net)
    assert second.epochs == 1


def test_a_fresh_network_fits_the_data(bench):
    net = play([{"build": {"block": "plain", "width": 4}}], bench).net
    assert net.classifier.out_features == 4
    assert net.stem[0].in_channels == 1


def test_who_teaches_is_the_network_on_the_bench_and_not_the_student(data, bench):
    student, teacher = (build("plain", width=4, num_classes=4, seed=seed) for seed in (0, 9))
    kd = whole({"fit": {"epochs": 1, "lr": 0.05, "loss": "kd", "teacher": "any"}})
    played = play([kd], Bench(data, networks={"teacher": teacher}), net=student, before=[PLAIN])
    by_hand, itself = (
        fit(student, data, epochs=1, lr=0.05, loss="kd", teacher=other, device="cpu", progress=False).net for other in (teacher, student)
    )
    assert digest(played.net) == digest(by_hand) != digest(itself)
    assert played.sentence[-1] == kd  # the name, not the network


def test_the_cost_of_another_sets_the_epochs(data):
    asked = []
    bench = Bench(data, epochs_for=lambda net, given: asked.append((net, given)) or 2)
    fitted = whole({"fit": {"cost_of": "other", "lr": 0.05}})
    start = build("plain", width=4, num_classes=4)
    played = play([fitted], bench, net=start)
    assert (played.epochs, len(played.rows)) == (2, 2)
    assert asked == [(start, fitted["fit"])]
    assert played.sentence == [fitted]


def test_a_search_leaves_its_decision_and_its_cost(data, bench):
    wide = play_all([{"build": {"block": "lambda", "width": 4, "expansion": 2}}], bench).net
    searched = play_all([{"search_mask": {"keep": 1, "by": "magnitude"}}], bench, net=wide, before=[PLAIN])
    assert [next(iter(move)) for move in searched.sentence] == ["build", "settle", "linearise"]
    assert digest(searched.net) == digest(play(searched.sentence[1:], net=wide).net)
    assert len(searched.sentence[2]["linearise"]["at"]) == 2
    greedy = play_all([{"search_mask": {"keep": 1, "by": "greedy"}}], bench, net=wide)
    assert greedy.searched_macs > searched.searched_macs >= 0
    assert greedy.seconds > 0
    assert greedy.epochs == 0


def test_a_tune_leaves_other_tensors_and_its_cost(data, bench):
    net = build("plain", width=4, num_classes=4)
    tuned = play([{"recalibrate": {"images": 200, "batch": 100}}], bench, net=net, seed=2)
    by_hand = batchnorm.recalibrate(net, data, images=200, batch=100, seed=2, device="cpu")
    assert digest(tuned.net) == digest(by_hand) != digest(net)
    assert tuned.sentence == [{"recalibrate": {"images": 200, "batch": 100}}]
    assert play([{"recalibrate": {"images": 100, "batch": 100}}], bench, net=net).searched_macs * 2 == tuned.searched_macs > 0


def test_a_tune_that_names_an_arm_gets_its_network_and_costs_of_several_add_up(data):
    student, teacher = build("plain", width=4, num_classes=4), build("scaler", width=4, expansion=2, num_classes=4)
    bench = Bench(data, networks={"teacher": teacher})
    once = play([{"ridge": {"teacher": "t", "images": 64}}], bench, net=student)
    assert digest(once.net) == digest(ridge.ridge(student, data, teacher=teacher, images=64, device="cpu"))
    twice = play([{"ridge": {"teacher": "t", "images": 64}}] * 2, bench, net=student)
    assert twice.searched_macs == 2 * once.searched_macs > 0
    assert twice.seconds > 0


def test_device_and_progress_are_those_of_the_bench(data, monkeypatch):
    seen = []
    monkeypatch.setattr(interpreter, "fit", lambda net, data, **given: seen.append(given) or Fitted(net, []))
    play([{"fit": {"epochs": 1}}], Bench(data, device="meta", progress=True), net=build("plain", width=4), seed=3, nth_fit=2)
    assert {name: seen[0][name] for name in ("device", "progress", "seed", "nth_fit")} == {
        "device": "meta", "progress": True, "seed": 3, "nth_fit": 2,
    }  # fmt: skip


def test_the_best_replicate_goes_on_with_its_own_sentence(data):
    nets = [build("plain", width=4, seed=seed) for seed in range(3)]
    replicates = tuple((accuracy, [{"build": {"seed": i}}], lambda i=i: nets[i]) for i, accuracy in enumerate((0.5, 0.7, 0.6)))
    played = play([{"best_of": {"arm": "plain", "tickets": 3}}, "fuse"], Bench(data, replicates=replicates))
    assert played.sentence == [{"build": {"seed": 1}}, {"fuse": {}}]
    assert digest(played.net) == digest(fuse(nets[1].eval()))


def test_an_exact_move_proves_itself_on_the_probe(data, bench, monkeypatch):
    """The largest change of a logit, in float64, over all such moves; others prove nothing."""
    net = play([TEACHER, "drop_branch", {"attach": {"expansion": 2}}]).net
    nn.init.normal_(net.stage1[0].branch2[0].parametrizations.weight[0].second)
    assert play(["drop_branch"], bench, net=play([TEACHER]).net).move_error is None
    assert 0 <= play(["fold"], bench, net=net).move_error < 1e-12
    assert play(["fold"], Bench(data), net=net).move_error is None

    def off(by):
        def wrong(net):
            folded = fold(net)
            folded.classifier.bias.data[0] += by
            return folded

        return wrong

    monkeypatch.setattr("reducenet.moves.side.fold", off(0.25))
    assert play(["fold"], bench, net=net).move_error == pytest.approx(0.25)
    assert play(["fold", "fuse"], bench, net=net).move_error == pytest.approx(0.25)  # the largest, not the last


def test_a_fit_that_diverges_ends_the_sentence(bench):
    played = play_all([PLAIN, {"fit": {"epochs": 3, "lr": 1e30}}, "fuse", ONE], bench)
    assert played.diverged
    assert [next(iter(move)) for move in played.sentence] == ["build", "fit"]
    assert played.epochs == len(played.rows) + 1  # the epoch in which it diverged was paid for


def test_what_is_handed_in_stays_as_it_is(bench):
    net, before = build("lambda", width=4, expansion=2, num_classes=4), [PLAIN]
    digest_before = digest(net)
    play([{"learn_lam": {}}, ONE, "snap"], bench, net=net, before=before)
    assert digest(net) == digest_before
    assert before == [PLAIN]
    assert digest(play(["loosen"], net=build("plain", width=4)).net) == digest(loosen(build("plain", width=4)))
    assert digest(play([{"settle": {}}], net=net).net) == digest(settle(net))
    assert digest(play(["linearise"], net=net).net) == digest(linearise(net))


def test_the_penalty_on_lam_is_a_loss_of_its_own_and_lams_stay_in_range(data):
    learned = layerfolding.learn_lam(build("lambda", width=4, expansion=2, num_classes=4))
    played = play([{"fit": {"epochs": 1, "lr": 5.0, "loss": "layer-folding"}}], Bench(data), net=learned)
    lams = [m.lam.item() for m in played.net.modules() if hasattr(m, "lam")]
    assert all(0 <= lam <= 1 for lam in lams)
    by_hand = fit(learned, data, epochs=1, lr=5.0, loss="layer-folding", device="cpu", progress=False).net
    assert torch.equal(torch.tensor(lams), torch.tensor([m.lam.item() for m in by_hand.modules() if hasattr(m, "lam")]))


def test_what_is_asked_for_more_than_answers_is_the_network_itself(data):
    """A loss of one's own may read of its teacher whatever it likes; what says that it asks gets somebody who remembers."""
    handed, teacher = [], play([TEACHER], Bench(data)).net
    bench = Bench(data, networks={"teacher": teacher}, asked=lambda net: handed.append(net) or net)
    for loss, remembered in (("kd", True), ("features", True), ("hints", False), ("match", False)):
        handed.clear()
        play(["drop_branch", {"fit": {"epochs": 1, "lr": 0.01, "loss": loss, "teacher": "teacher"}}], bench, net=teacher)
        assert handed == [teacher] * remembered
