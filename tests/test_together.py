"""Replicates of an arm trained together: which, under what key, what becomes of each, and what of those that are not there."""

import pytest
from studies import TINY, here, make

from reducenet import DivergedError, build, drop_branch, fit, fit_replicates, learn_lam, loosen
from reducenet.cli import main
from reducenet.data.tensors import load
from reducenet.play import piece, training
from reducenet.play.checkpoint import digest
from reducenet.play.checkpoint import load as load_net
from reducenet.store import Store
from reducenet.study.plan import plan
from reducenet.study.read import read
from reducenet.study.run import drive, execute
from reducenet.study.run.drive import unasked
from reducenet.study.together import groups, joins, many
from reducenet.words import whole

TWO = TINY.replace("together = 1", "together = 2").replace("seeds = 2", "seeds = 3")
QUIET = dict(epochs=1, lr=0.05, device="cpu", progress=False)


# ---- which


@pytest.mark.parametrize(
    ("said", "device", "count"),
    [("", "cpu", 2), ("", "cuda", 3), ('"auto"', "cpu", 2), ("1", "cuda", 1), ("3", "cpu", 3)],
)
def test_how_many_is_what_pays_here_or_what_is_asked_for(said, device, count, tmp_path):
    text = TWO.replace("together = 2", f"together = {said}" if said else "")
    assert many(read(make(tmp_path, text)), device, "plain") == count


@pytest.mark.parametrize(
    ("build", "count"),
    [
        ("{ build = { width = 8 } }", 2),
        ("{ build = { width = 9 } }", 1),
        ("{ vanillanet = { width = 4 } }", 2),
        ('{ best_of = { arm = "plain", tickets = 2 } }', 1),
    ],
)
def test_wide_networks_gain_nothing_on_a_cpu(build, count, tmp_path):
    text = TWO.replace("together = 2", "") + f'\n[arms.other]\nchain = [{build}, "fit"]\n'
    made = plan(make(tmp_path, text), device="cpu")
    assert many(made.study, "cpu", "other") == count
    assert many(made.study, "cpu", "plain") == 2
    assert len(made.called("other/s0").parameters["together"]) == count * (count > 1)


@pytest.mark.parametrize(
    ("seeds", "first", "size", "found"),
    [
        (5, 0, 2, [(0, 1), (2, 3), (4,)]),
        (4, 1, 2, [(1,), (2, 3), (4,)]),
        (4, 100, 3, [(100, 101), (102, 103)]),
        (3, 0, 1, [(0,), (1,), (2,)]),
    ],
)
def test_groups_are_the_same_whoever_else_there_is(seeds, first, size, found, tmp_path):
    text = TWO.replace("together = 2", f"together = {size}\nfirst_seed = {first}").replace("seeds = 3", f"seeds = {seeds}")
    made = groups(read(make(tmp_path, text)), "cpu", "plain")
    assert list(dict.fromkeys(made.values())) == found
    assert all(seed in group for seed, group in made.items())


FIT = whole({"fit": {"epochs": 1}})


@pytest.mark.parametrize(
    ("pieces", "yes"),
    [
        ([[whole({"build": {}}), FIT]], True),
        ([[whole({"build": {}}), FIT], [whole("drop_branch")]], False),  # trains nothing
        ([[whole({"build": {}}), FIT], [whole({"fit": {"epochs": 1, "loss": "smoothed"}})]], True),
        ([[whole({"fit": {"epochs": 1, "loss": "kd", "teacher": "t"}})]], True),
        ([[whole({"fit": {"epochs": 1, "loss": "hints", "teacher": "t"}})]], False),  # reads maps
        ([[whole({"fit": {"epochs": 1, "loss": "netaug"}})]], False),
        ([[whole({"build": {}}), FIT], [whole({"search_mask": {"keep": 1}}), FIT]], False),  # each decides for itself
        ([[whole({"search_mask": {"keep": 1}}), FIT], [FIT]], False),
        ([[whole({"best_of": {"arm": "plain", "tickets": 2}}), FIT]], False),
    ],
)
def test_together_goes_what_is_trained_by_logits_and_looks_alike(pieces, yes):
    assert joins(pieces) is yes


def test_every_loss_that_goes_together_can(tmp_path):
    """What a loss says of itself is true: it asks for nothing but logits."""
    from reducenet.words import words

    data, teacher = load("synthetic").subset(128), build("scaler", width=4, num_classes=4)
    for name, word in words("loss").items():
        if word.options.get("asks") == "logits":
            own = {"teacher": teacher} if any(p.names_an_arm for p in word.parameters) else {}
            fit_replicates([drop_branch(teacher)] * 2, data, seeds=(0, 1), loss=name, **own, **QUIET)


# ---- under what key


def ends(text, folder):
    made = plan(make(folder, text), device="cpu")
    return made, {run.name: run.trained for run in made.runs.values()}


def test_the_group_is_in_the_key_of_what_is_trained_in_it_and_of_nothing_else(tmp_path):
    _, alone = ends(TWO.replace("together = 2", "together = 1"), tmp_path / "a")
    _, two = ends(TWO, tmp_path / "b")
    _, three = ends(TWO.replace("together = 2", "together = 3"), tmp_path / "c")
    assert alone.keys() == two.keys() == three.keys()
    assert {name for name in alone if alone[name] == two[name]} == {name for name in alone if name.endswith("/s2")}  # the third is alone
    assert not set(three.values()) & {*alone.values(), *two.values()}
    _, four = ends(TWO.replace("seeds = 3", "seeds = 4"), tmp_path / "d")
    assert {name for name in two if four[name] == two[name]} == {name for name in two if not name.endswith("/s2")}


def test_each_of_a_group_is_told_who_the_others_are(tmp_path):
    made = plan(make(tmp_path, TWO), device="cpu")
    for run in made.runs.values():
        told, seed = run.parameters["together"], run.parameters["seed"]
        if seed == 2 or run.name.startswith(("drop/", "lora/")):
            assert (told, run.beside) == ([], ())
            continue
        assert [one["seed"] for one in told] == [0, 1]
        for one in told:
            other = made.called(run.name.replace(f"/s{seed}", f"/s{one['seed']}"))
            assert one["trained"] == other.trained
            assert all(one[name] == other.parameters[name] for name in ("after", "teacher", "paid_by"))
        partner = made.called(run.name.replace(f"/s{seed}", f"/s{1 - seed}"))
        assert set(run.beside) == ({partner.key} if seed else set(partner.needs) - set(run.needs))
    order = list(made.runs)
    assert all(order.index(key) > order.index(other) for key, run in made.runs.items() for other in (*run.needs, *run.beside))


def test_tickets_go_with_the_tickets_of_the_same_number(tmp_path):
    text = TWO + '\n[arms.best]\nchain = [{ best_of = { arm = "plain", tickets = 2 } }]\n'
    made = plan(make(tmp_path, text), device="cpu")
    told = {run.name: [one["seed"] for one in run.parameters["together"]] for run in made.runs.values() if run.arm == "plain"}
    assert told == {f"plain/s{seed}": [seed // 2 * 2, seed // 2 * 2 + 1] if seed % 1000 < 2 else [] for seed in (0, 1, 2, 1000, 1001, 1002)}


def test_tickets_of_seeds_that_are_numbered_like_tickets(tmp_path):
    text = (
        TWO.replace("seeds = 3", "seeds = 2\nfirst_seed = 1000") + '\n[arms.best]\nchain = [{ best_of = { arm = "plain", tickets = 3 } }]\n'
    )
    made = plan(make(tmp_path, text), device="cpu")
    told = {run.parameters["seed"]: [one["seed"] for one in run.parameters["together"]] for run in made.runs.values() if run.arm == "plain"}
    assert told == {seed: [seed // 1000 * 1000, seed // 1000 * 1000 + 1] for seed in (1000, 1001, 2000, 2001, 3000, 3001)}


# ---- what becomes of each


@pytest.fixture
def in_this_process(monkeypatch):
    monkeypatch.setattr(execute, "_papermill", here)
    monkeypatch.setattr(drive, "timing_of", lambda made, states: None)
    monkeypatch.setattr(piece, "load", lambda name: load(name).subset(128))
    monkeypatch.setattr("reducenet.study.preview.check", lambda made, store: None)  # these two have tests of their own
    monkeypatch.setattr("reducenet.words.lock.check", lambda every: None)


def run(file, *options):
    return main(["run", str(file), "--device", "cpu", "--serial", *options])


def net(store, made, name):
    return load_net(store.entry(made.called(name).trained) / "net.safetensors")


def test_a_study_by_two_gives_each_what_it_gets_beside_the_other(tmp_path, in_this_process):
    file, store, data = make(tmp_path, TWO), Store(tmp_path / "ablations" / "store"), load("synthetic").subset(128)
    assert run(file) == 0
    made = plan(file, device="cpu")
    teachers = fit_replicates([build(width=4, expansion=2, num_classes=4, seed=s) for s in (0, 1)], data, seeds=(0, 1), **QUIET)
    for seed, teacher in enumerate(teachers):
        assert digest(net(store, made, f"teacher/s{seed}")) == digest(teacher.net)
    alone = fit(build(width=4, expansion=2, num_classes=4, seed=2), data, seed=2, **QUIET)
    assert digest(net(store, made, "teacher/s2")) == digest(alone.net)
    for name in ("teacher", "plain", "lora@2", "long"):
        results = [store.result(made.called(f"{name}/s{seed}").trained) for seed in range(3)]
        assert [result.get("together") for result in results] == [[0, 1], [0, 1], None]
        assert len({result["cost"]["epochs"] for result in results}) == 1
    assert store.result(made.called("lora/s1").key)["metrics"]["test_accuracy"] >= 0
    assert not (store.folder / "_answers").exists() or not list((store.folder / "_answers").iterdir())  # nobody asks any more


def test_one_alone_is_what_it_is_beside_the_other(tmp_path, in_this_process):
    """Whoever is missing, its place is kept: the other may have diverged, or be wanted later."""
    both, one = (make(tmp_path / name, TWO) for name in ("both", "one"))
    assert run(both) == 0
    assert run(one, "--only", "lora/s1") == 0
    made = plan(both, device="cpu")
    stores = [Store(file.parent / "store") for file in (both, one)]
    assert stores[1].result(made.called("plain/s1").key) is None
    assert stores[1].result(made.called("teacher/s0").key) is None
    assert stores[1].result(made.called("teacher/s0").trained) is not None  # trained with it: it is there for whoever wants it
    for name in ("teacher/s1", "lora@2/s1", "lora/s1"):
        assert digest(net(stores[0], made, name)) == digest(net(stores[1], made, name))


def test_what_diverges_is_reported_alone(tmp_path, in_this_process, monkeypatch):
    file, store = make(tmp_path, TWO), Store(tmp_path / "ablations" / "store")
    from reducenet.play import together

    def one_diverges(nets, data, *, seeds, **given):
        found = fit_replicates(nets, data, seeds=seeds, **given)
        return [DivergedError(0, []) if seed == 1 and "teacher" not in given else end for seed, end in zip(seeds, found, strict=True)]

    monkeypatch.setattr(together, "fit_replicates", one_diverges)
    assert run(file) == 1  # nobody can pay for long/s1
    made = plan(file, device="cpu")
    states = {made.runs[key].name: state["state"] for key, state in drive.known(made, store).items() if key in made.runs}
    diverged = {name for name, state in states.items() if state == "diverged"}
    assert diverged == {f"{arm}/s1" for arm in ("teacher", "plain", "drop", "lora@2", "lora")}
    assert set(states) - diverged == {run.name for run in made.runs.values() if not run.name.endswith("/s1")}
    assert store.result(made.called("lora@2/s0").trained)["together"] == [0, 1]


def test_what_cannot_stand_side_by_side_is_trained_apart_and_says_why(tmp_path, in_this_process):
    text = TWO.split("[arms.long]")[0] + '[arms.learned]\nchain = [{ build = "plain" }, "loosen", "learn_lam", "fit"]\n'
    file, store, data = make(tmp_path, text), Store(tmp_path / "ablations" / "store"), load("synthetic").subset(128)
    assert run(file) == 0
    made = plan(file, device="cpu")
    for seed in range(2):
        result = store.result(made.called(f"learned/s{seed}").trained)
        assert "LearnedReLU" in result["apart"]
        assert "\n" not in result["apart"]
        assert "together" not in result
        start = learn_lam(loosen(build("plain", width=4, num_classes=4, seed=seed)))
        assert digest(net(store, made, f"learned/s{seed}")) == digest(fit(start, data, seed=seed, **QUIET).net)


def test_other_budgets_are_trained_apart(tmp_path, in_this_process, monkeypatch):
    file, store = make(tmp_path, TWO), Store(tmp_path / "ablations" / "store")
    monkeypatch.setattr(training, "_affordable", lambda kept, member, net, fit, images: 1 + member.seed)
    assert run(file) == 0
    made = plan(file, device="cpu")
    results = [store.result(made.called(f"long/s{seed}").trained) for seed in range(2)]
    assert [result["cost"]["epochs"] for result in results] == [1, 2]
    assert results[0]["apart"] == results[1]["apart"] == "their cost buys 1 or 2 epochs"


def test_answers_are_kept_while_somebody_may_ask(tmp_path):
    made = plan(make(tmp_path, TWO), device="cpu")
    teachers = {made.called(f"teacher/s{seed}").trained for seed in range(3)}
    assert unasked(made, {}) == set()
    done = {made.called(f"lora@2/s{seed}").key: {} for seed in (0, 2)}
    assert unasked(made, done) == {made.called(f"teacher/s{seed}").trained for seed in (0, 2)}
    assert unasked(made, dict.fromkeys(made.runs)) == teachers


@pytest.mark.parametrize("said", ["0", "-1", "two", "1.5", ""])
def test_a_number_is_asked_for_or_auto(said, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["plan", str(make(tmp_path, TWO)), "--together", said])
    assert 'must be "auto" or a whole number from 1 on' in capsys.readouterr().err
