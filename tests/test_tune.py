"""Learning rates are chosen by one rule, before anything else runs: which variants there are, what is chosen, and who refuses meanwhile."""

import json
import math
import random

import pytest
from finished import Project
from studies import ROOT, TINY, forget, make

from reducenet.cli import main
from reducenet.data import sources
from reducenet.store import Store, write_result
from reducenet.study import accept
from reducenet.study.claims import rates
from reducenet.study.claims.records import Records
from reducenet.study.plan import plan
from reducenet.study.read import StudyError, Untuned, read
from reducenet.study.report import tuned
from reducenet.study.report.prose import Report
from reducenet.study.report.publish import chosen
from reducenet.study.report.tables import read_rows
from reducenet.study.run import drive
from reducenet.study.tuning import choose
from reducenet.study.tuning.choices import WIDER, Choice, Variant, best, beyond, read_choices
from reducenet.study.tuning.choose import tune, tuning_macs
from reducenet.words import lock

TUNED = TINY.replace("[compare]", "[tune]\nlr = [0.1, 0.2, 0.4]\n\n[compare]")
SEEDS = ("100", "101")


class Engine:
    """In place of the driver: every run at once, with the validation accuracy that `of(arm, rate, seed)` says, None for one that diverges.
    On the test images it is the other way round, so that whoever looks there chooses the worst."""

    def __init__(self, monkeypatch, of=lambda arm, rate, seed: 0.5 - abs(math.log2(rate / 0.2)) / 20, fails=()):
        self.of, self.fails, self.plans, self.played = of, fails, [], []
        monkeypatch.setattr(choose, "drive", self.drive)
        monkeypatch.setattr(lock, "check", lambda every: None)
        monkeypatch.setattr("reducenet.study.preview.check", lambda made, store: None)

    def drive(self, made, store, workers, serial, only):
        assert set(only) == {run.name for run in made.runs.values()}
        self.plans.append(made)
        states = {}
        for key, run in made.runs.items():
            states[key] = drive.known(made, store).get(key) or self.play(run, store, [states[need] for need in run.needs])
        return states

    def play(self, run, store, needs):
        troubled = {need["state"] for need in needs} - {"ok"}
        if run.name in self.fails or troubled:
            return {"name": run.name, "key": run.key, "trained": run.trained, "error": "no",
                    "state": "failed" if run.name in self.fails else "blocked"}  # fmt: skip
        arm, _, rate = run.arm.partition(":")
        share = self.of(arm, float(rate or 0.05), run.parameters["seed"])
        folder = store.begin(run.key)
        for name in ("correct.npy", "run.ipynb"):
            (folder / name).write_text("{}")
        macs = sum(map(ord, run.name))
        state = "ok" if share is not None else "diverged"
        write_result(folder, {"kind": "measured", "key": run.key, "trained": run.trained, "status": state, "network": "n",
                              "metrics": {"val_accuracy": share, "test_accuracy": 1 - (share or 0)},
                              "cost": {"train_macs": macs, "epochs": 1}})  # fmt: skip
        store.publish(run.key, folder)
        self.played.append(run.name)
        return {"name": run.name, "key": run.key, "trained": run.trained, "state": state, "error": ""}


def tuned_file(file):
    return file.with_name(f"{file.stem}.tuned.json")


def tried(file, **more):
    """(choices, trouble) of a study in its own store."""
    return tune(file, Store(file.parent / "store"), device="cpu", **more)


# ---- the rule


def test_the_best_mean_is_taken_and_of_equal_ones_the_smallest():
    """Against another way to say it, over shares so coarse that many are equal."""
    draw = random.Random(0)
    for _ in range(300):
        rates = sorted(draw.sample([0.01, 0.02, 0.05, 0.1, 0.2, 0.5], draw.randint(2, 6)))
        shares = {rate: [draw.choice([None, 0.25, 0.5, 0.75]) for _ in SEEDS] for rate in rates}
        variants = [Variant(lr=rate, accuracy=dict(zip(SEEDS, shares[rate], strict=True))) for rate in rates]
        whole = {rate: sum(known) for rate, known in shares.items() if None not in known} or dict.fromkeys(rates, 0)
        found = best(variants)
        assert found in whole
        assert all(whole[found] >= other for other in whole.values())
        assert not [rate for rate in whole if rate < found and whole[rate] == whole[found]]
        assert (beyond(variants) is None) == (found not in (rates[0], rates[-1]))


@pytest.mark.parametrize(
    ("rates", "shares", "wider"),
    [
        ([0.1, 0.2, 0.4], [0.1, 0.2, 0.3], 0.8),
        ([0.1, 0.2, 0.4], [0.3, 0.2, 0.1], 0.05),
        ([0.1, 0.2, 0.4], [0.1, 0.3, 0.2], None),
        ([0.1, 0.3], [0.1, 0.2], 0.9),
        ([0.02, 0.1, 0.2], [0.2, 0.1, 0.1], 0.004),
        ([1e-3, 0.01, 0.3], [0.1, 0.2, 0.3], 9.0),
        ([0.1, 0.2, 0.4], [None, None, None], 0.05),
        ([0.1, 0.2, 0.4], [0.1, 0.2, None], None),
    ],
)
def test_a_grid_is_widened_by_its_own_ratio_where_its_edge_is_best(rates, shares, wider):
    assert beyond([Variant(lr=rate, accuracy={"100": share}) for rate, share in zip(rates, shares, strict=True)]) == wider


# ---- what is tried


def test_the_best_rate_on_validation_images_stands_in_the_chain(tmp_path, monkeypatch):
    peaks = {"teacher": 0.2, "plain": 0.4, "lora": 0.1, "long": 0.2}
    engine = Engine(monkeypatch, lambda arm, rate, seed: 0.5 - abs(math.log2(rate / peaks[arm])) / 20 + seed / 1e4)
    file = make(tmp_path, TUNED)
    choices, trouble = tried(file)
    assert {arm: choice.lr for arm, choice in choices.items()} == peaks
    assert not trouble
    assert list(choices) == ["teacher", "plain", "long", "lora"]  # "drop" trains nothing
    assert choices["plain"].tried[1].accuracy == {"100": 0.46, "101": 0.4601}
    assert {arm: [variant.lr for variant in choice.tried] for arm, choice in choices.items()} == {
        "teacher": [0.1, 0.2, 0.4], "plain": [0.1, 0.2, 0.4, 0.8], "long": [0.1, 0.2, 0.4], "lora": [0.05, 0.1, 0.2, 0.4],
    }  # fmt: skip
    chains = read(file).chains
    assert [move["fit"]["lr"] for arm in peaks for move in chains[arm] if "fit" in move] == [0.2, 0.4, 0.2, 0.1, 0.2]
    assert chains["drop"][1]["fit"]["lr"] == 0.2  # it goes on from the tuned teacher
    assert len(engine.played) == len(set(engine.played))


def test_variants_have_seeds_of_their_own_and_go_on_from_what_is_chosen_already(tmp_path, monkeypatch):
    engine, file = Engine(monkeypatch), make(tmp_path, TUNED)
    tried(file)
    assert {run.parameters["seed"] for made in engine.plans for run in made.runs.values()} == {100, 101}
    assert {run.parameters["seed"] for run in plan(file, device="cpu").runs.values()} == {0, 1}
    assert [{name for name, _ in made.ends} for made in engine.plans] == [
        {f"{arm}:{rate}" for arm in ("teacher", "plain") for rate in (0.1, 0.2, 0.4)},
        {*(f"lora:{rate}" for rate in (0.1, 0.2, 0.4)), "teacher"},
        {*(f"long:{rate}" for rate in (0.1, 0.2, 0.4)), "lora", "teacher"},
    ]
    first, students, paid = engine.plans
    teacher = first.runs[first.ends["teacher:0.2", 101]]
    fit = students.called("lora:0.4@2/s101")
    assert fit.parameters["after"] == fit.parameters["teacher"] == teacher.trained
    assert fit.parameters["moves"][-1]["fit"]["lr"] == 0.4
    payers = [paid.runs[key] for key in paid.called("long:0.1/s100").parameters["paid_by"]]
    assert students.ends["lora:0.2", 100] == payers[-1].key


def test_an_arm_waits_for_all_that_it_stands_on_however_far_below(tmp_path, monkeypatch):
    """Here the teacher's rate, two arms below; and it pays for nothing that the teacher's choice has paid for."""
    engine, file = Engine(monkeypatch), make(tmp_path, TUNED + '\n[arms.more]\nafter = "drop"\nchain = ["fit"]\n')
    choices, _ = tried(file)
    fit = engine.plans[1].called("more:0.4/s100")
    assert fit.parameters["after"] == engine.plans[0].runs[engine.plans[0].ends["teacher:0.2", 100]].trained
    cost = {arm: sum(sum(map(ord, name)) for name in engine.played if name.startswith(f"{arm}:")) for arm in choices}
    assert choices["more"].train_macs == cost["more"]
    assert tuning_macs(read(file), "more") == cost["teacher"] + cost["more"]
    assert plan(file, device="cpu").ends


def test_a_tuned_study_is_the_study_that_says_these_rates(tmp_path, monkeypatch):
    """Same keys, so runs are shared; and the choices beside a study that does not tune change nothing."""
    Engine(monkeypatch, lambda arm, rate, seed: rate if rate < 0.7 else None)
    file = make(tmp_path / "a", TUNED)
    tried(file)
    assert {choice.lr for choice in read(file).choices.values()} == {0.4}
    said = make(tmp_path / "b", TINY.replace("lr = 0.05", "lr = 0.4"))
    tuned_file(said).write_bytes(tuned_file(file).read_bytes())
    assert plan(file, device="cpu").ends == plan(said, device="cpu").ends
    assert read(said).choices == {}
    tuned_file(said).write_text("not json")
    assert read(said).choices == {}


def test_replicates_are_trained_together_as_in_the_study(tmp_path, monkeypatch):
    engine = Engine(monkeypatch)
    text = TUNED.replace("together = 1", 'together = "auto"').replace("seeds = 2", "seeds = 5\nfirst_seed = 4")
    file = make(tmp_path, text)
    tried(file)
    assert [m["seed"] for m in engine.plans[0].called("plain:0.1/s101").parameters["together"]] == [100, 101]
    assert plan(file, device="cpu").called("plain/s5").parameters["together"]
    alone = Engine(monkeypatch)
    tuned_file(file).unlink()
    tried(file, together=1)
    assert alone.plans[0].called("plain:0.1/s101").parameters["together"] == []


OWN = TUNED.replace("[arms.plain]\n", "[arms.plain]\ntune = { lr = [0.4, 0.02] }\n").replace("[arms.long]\n", "[arms.long]\ntune = false\n")


def test_an_arm_has_a_grid_of_its_own_or_keeps_what_the_study_says(tmp_path, monkeypatch):
    engine, file = Engine(monkeypatch), make(tmp_path, OWN)
    choices, _ = tried(file)
    assert set(choices) == {"teacher", "plain", "lora"}
    assert [variant.lr for variant in choices["plain"].tried] == [0.02, 0.4, 8.0]
    assert read(file).chains["long"][-1]["fit"]["lr"] == 0.05
    assert not any(name.startswith("long") for name in engine.played)


def test_only_the_last_fit_of_an_arms_own_chain_is_tuned(tmp_path, monkeypatch):
    Engine(monkeypatch)
    file = make(tmp_path, TUNED.replace('[{ build = "plain" }, "fit"]', '[{ build = "plain" }, "fit", { fit = { lr = 0.3 } }, "fit"]'))
    tried(file)
    assert [move["fit"]["lr"] for move in read(file).chains["plain"][1:]] == [0.05, 0.3, 0.2]


def test_the_search_for_an_edge_ends(tmp_path, monkeypatch):
    Engine(monkeypatch, lambda arm, rate, seed: min(1, rate / 100) if arm == "plain" else 1 / (1 + rate))
    choices, _ = tried(make(tmp_path, TUNED))
    assert [variant.lr for variant in choices["plain"].tried] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2]
    assert [variant.lr for variant in choices["teacher"].tried] == [0.0125, 0.025, 0.05, 0.1, 0.2, 0.4]
    assert WIDER == 3
    assert all(choice.at_edge for choice in choices.values())


def test_divergence_is_a_result_and_the_worst(tmp_path, monkeypatch):
    """One seed of a rate is enough; a student of a teacher that always diverges has no better rate, nor has whoever it pays for."""
    Engine(monkeypatch, lambda arm, rate, seed: None if arm == "teacher" or (rate > 0.15 and seed == 101) else 0.1 + rate)
    choices, trouble = tried(make(tmp_path, TUNED))
    assert not trouble
    assert choices["plain"].lr == 0.1
    assert [(variant.lr, variant.accuracy["101"]) for variant in choices["plain"].tried] == [
        (0.05, 0.15000000000000002),
        (0.1, 0.2),
        (0.2, None),
        (0.4, None),
    ]
    assert choices["plain"].tried[2].accuracy["100"] == pytest.approx(0.3)
    for arm in ("teacher", "lora", "long"):
        assert choices[arm].lr == 0.0125
        assert {share for variant in choices[arm].tried for share in variant.accuracy.values()} == {None}


def test_what_fails_chooses_nothing(tmp_path, monkeypatch, capsys):
    engine, file = Engine(monkeypatch, fails={"teacher:0.2/s101"}), make(tmp_path, TUNED)
    assert main(["tune", str(file), "--device", "cpu"]) == 1
    printed = capsys.readouterr().out
    assert "teacher:0.2/s101: no\n" in printed
    assert "tiny: 1 runs failed or were blocked; nothing is chosen" in printed
    assert not tuned_file(file).exists()
    assert main(["run", str(file), "--device", "cpu"]) == 1
    engine.fails = ()
    before = len(engine.played)
    assert main(["tune", str(file), "--device", "cpu"]) == 0
    assert engine.played[before] == "teacher:0.2/s101"  # the others were kept
    assert "teacher: lr 0.2 of 0.1, 0.2, 0.4\n" in capsys.readouterr().out


# ---- the file


def test_the_same_runs_give_the_same_bytes(tmp_path, monkeypatch):
    engine, file = Engine(monkeypatch), make(tmp_path, TUNED)
    tried(file)
    once = tuned_file(file).read_bytes()
    tuned_file(file).unlink()
    played = list(engine.played)
    tried(file)
    assert engine.played == played
    assert tuned_file(file).read_bytes() == once
    told = json.loads(once)["arms"]["lora"]
    assert set(told) == {"of", "lr", "tried", "train_macs"}
    assert str(tmp_path) not in once.decode()
    other = make(tmp_path / "elsewhere", TUNED, "other")
    Engine(monkeypatch)
    tried(other)
    costs_nothing = [
        {**choice, "train_macs": 0} for file in (file, other) for choice in json.loads(tuned_file(file).read_text())["arms"].values()
    ]
    assert costs_nothing[:4] == costs_nothing[4:]


CHANGES = [
    ("epochs = 1, lr = 0.05", "epochs = 2, lr = 0.05", {"teacher", "plain", "long", "lora"}),
    ("epochs = 1, lr = 0.05", "epochs = 1, lr = 0.07", set()),  # nobody reads it
    ("lr = [0.1, 0.2, 0.4]", "lr = [0.1, 0.2]", {"teacher", "plain", "long", "lora"}),
    ("lr = [0.1, 0.2, 0.4]", "lr = [0.1, 0.2, 0.4]\nseeds = 3", {"teacher", "plain", "long", "lora"}),
    ("lr = [0.1, 0.2, 0.4]", "lr = [0.1, 0.2, 0.4]\nfirst_seed = 50", {"teacher", "plain", "long", "lora"}),
    ("build = { expansion = 2 } }, ", "build = { expansion = 3 } }, ", {"teacher", "lora", "long"}),
    ("{ expansion = 2 } }, {", "{ expansion = 3 } }, {", {"lora", "long"}),
    ('cost_of = "lora"', 'cost_of = "plain"', {"long"}),
    ("[arms.drop]", "[arms.more]\nchain = [{ build = { expansion = 4 } }, 'fit']\n\n[arms.drop]", {"more"}),
    ("[arms.plain]", "[arms.plain]\ntune = { lr = [0.1, 0.2] }", {"plain"}),
    ("[arms.long]", "[arms.long]\ntune = false", set()),
    ("seeds = 2", "seeds = 8", set()),
    ("together = 1", "together = 2", set()),
    ('label = "the teacher"', 'label = "another name"', set()),
    ('title = "tiny"', 'title = "tinier"', set()),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "arms"), CHANGES, ids=[f"{change[1][:30]}" for change in CHANGES])
def test_a_choice_holds_for_what_it_was_made_for_and_nothing_else(old, new, arms, tmp_path, monkeypatch):
    """Whoever is tuned again is all that plays; the others are kept, whatever has become of the store."""
    Engine(monkeypatch)
    tried(make(tmp_path, TUNED))
    assert old in TUNED
    file = make(tmp_path, TUNED.replace(old, new, 1))
    if not arms:
        plan(file, device="cpu")
        study = read(file)
        assert set(study.choices) == set(study.tuned)  # of what was chosen once for an arm that is not tuned now, nothing is left
        assert {study.chains[arm][-1]["fit"]["lr"] for arm in ("plain", "long")} <= {0.2, 0.05}
        assert (study.chains["long"][-1]["fit"]["lr"] == 0.2) == ("long" in study.tuned)
        return
    with pytest.raises(Untuned) as error:
        plan(file, device="cpu")
    assert all(arm in str(error.value) or "more" in str(error.value) for arm in arms)
    engine, before = Engine(monkeypatch), read_choices(file)
    tune(file, Store(tmp_path / "empty"), device="cpu")
    after = read_choices(file)
    assert {name.split(":")[0] for name in engine.played if ":" in name} == arms
    assert {arm for arm in after if before.get(arm) != after[arm]} == arms
    plan(file, device="cpu")


def test_a_study_that_extends_a_tuned_one_has_its_choices_as_long_as_they_are_for_the_same(tmp_path, monkeypatch):
    Engine(monkeypatch)
    tried(make(tmp_path, TUNED))
    again = make(tmp_path, 'extends = "tiny"\ntitle = "again"\nfirst_seed = 2000\n', "again")
    assert read(again).choices == read(tmp_path / "ablations" / "tiny.toml").choices
    assert chosen(plan(again, device="cpu")) == {"tuned.json": tuned_file(tmp_path / "ablations" / "tiny.toml").read_bytes()}
    some = make(tmp_path, 'extends = "tiny"\nonly = ["plain", "teacher"]\ntitle = "some"\nfirst_seed = 2000\n', "some")
    assert list(json.loads(chosen(plan(some, device="cpu"))["tuned.json"])["arms"]) == ["teacher", "plain"]
    wider = make(tmp_path, 'extends = "tiny"\ntitle = "wider"\nfirst_seed = 2000\nbuild = { width = 6 }\n', "wider")
    with pytest.raises(Untuned):
        plan(wider, device="cpu")
    tried(wider)
    plan(wider, device="cpu")
    plan(again, device="cpu")


def waits(file):
    """For which arms the study waits, as it says itself; "" where it can be planned."""
    try:
        plan(file, device="cpu")
    except Untuned as error:
        return str(error).split("is chosen for ")[1].split(";")[0]
    return ""


def test_another_version_of_a_word_or_of_what_all_share_or_other_images_make_another_choice(tmp_path, monkeypatch):
    Engine(monkeypatch)
    file = make(tmp_path, TUNED)
    tried(file)
    for name, arms in (("loss kd", "long, lora"), ("block plain", "plain, long"), ("snap", "")):
        with monkeypatch.context() as patched:
            patched.setattr(lock, "version", lambda word, name=name, known=lock.version: known(word) + "!" * (lock.name_of(word) == name))
            assert waits(file) == arms
    for part, arms in (("train", "teacher, plain, long and 1 more"), ("count", "teacher, plain, long and 1 more"), ("measure", "")):
        with monkeypatch.context() as patched:
            patched.setattr(lock, "shared_version", lambda name, part=part, known=lock.shared_version: known(name) + "!" * (name == part))
            assert waits(file) == arms
    monkeypatch.setattr(sources, "fingerprint", lambda name, known=sources.fingerprint: known(name) + "!")
    assert waits(file) == "teacher, plain, long and 1 more"


def test_what_cannot_be_played_and_what_has_changed_is_refused_before_anything_is_tried(tmp_path, monkeypatch, capsys):
    engine, file, checked = Engine(monkeypatch), make(tmp_path, TUNED), []

    def refuse(made, store):
        checked.append(made.study.chains["lora"])
        raise StudyError("arms.lora: fold: none")

    monkeypatch.setattr("reducenet.study.preview.check", refuse)
    assert main(["tune", str(file), "--device", "cpu"]) == 2
    assert capsys.readouterr().err == "reducenet: error: arms.lora: fold: none\n"
    assert [next(iter(move)) for move in checked[0]] == ["build", "fit", "drop_branch", "freeze", "attach", "fit", "fold"]

    def trip(every):
        raise lock.Tripped("the source of fit has changed")

    monkeypatch.setattr(lock, "check", trip)
    assert main(["run", str(file), "--device", "cpu"]) == 2
    assert len(checked) == 1
    assert engine.played == []


def damaged(text):
    told = json.loads(text)
    choice = told["arms"]["plain"]
    yield "not json", "no readable choices"
    yield "[]", "no readable choices"
    yield "{}", "no readable choices"
    yield '{"arms": []}', "no readable choices"
    for change, why in [
        ({"lr": 0.4}, "lr 0.4 is not the best of what was tried"),
        ({"lr": "0.2"}, "lr must be a number, not '0.2'"),
        ({"more": 1}, "more"),
        ({"train_macs": -1}, "train_macs must be at least 0"),
        ({"tried": choice["tried"][1:2]}, "tried"),
        ({"tried": choice["tried"][::-1]}, "every rate is tried once with the same seeds, the smallest first"),
        ({"tried": [*choice["tried"][:2], {"lr": 0.4, "accuracy": {"100": 0.1}}]}, "every rate is tried once with the same seeds"),
        ({"tried": [*choice["tried"][:2], {"lr": 0.4, "accuracy": {"100": 0.1, "101": 1.5}}]}, "must be at most 1, not 1.5"),
    ]:
        yield json.dumps({"arms": {**told["arms"], "plain": choice | change}}), why


def test_a_damaged_file_is_one_line(tmp_path, monkeypatch):
    Engine(monkeypatch)
    file = make(tmp_path, TUNED)
    tried(file)
    for text, why in damaged(tuned_file(file).read_text()):
        tuned_file(file).write_text(text)
        with pytest.raises(StudyError) as error:
            read(file)
        assert str(error.value).startswith(f"{file}: {tuned_file(file)}: damaged")
        assert why in str(error.value)
        assert str(error.value).endswith("delete it, `reducenet tune` makes it anew")
        assert "\n" not in str(error.value)


# ---- what a study may say

PLAIN = '[{ build = "plain" }, "fit"]'
MISTAKES = [
    (TUNED, "lr = [0.1, 0.2, 0.4]", "lr = [0.1]", "tune.lr: List should have at least 2 items"),
    (TUNED, "lr = [0.1, 0.2, 0.4]", "lr = 0.1", "tune.lr must be a list, not 0.1"),
    (TUNED, "lr = [0.1, 0.2, 0.4]", "lr = [0.1, -0.2]", "must be above 0, not -0.2"),
    (TUNED, "lr = [0.1, 0.2, 0.4]", "lr = [0.1, 0.1, 0.4]", "rates must be at least 1 % apart"),
    (TUNED, "lr = [0.1, 0.2, 0.4]", "", "tune.lr: is missing"),
    (TUNED, "lr = [0.1, 0.2, 0.4]", "lr = [0.1, 0.2]\nseeds = 0", "tune.seeds must be at least 1, not 0"),
    (TUNED, "lr = [0.1, 0.2, 0.4]", "lr = [0.1, 0.2]\nsead = 1", "(did you mean 'seeds'?); known: lr, seeds, first_seed (in tune.sead"),
    (TUNED, "lr = [0.1, 0.2, 0.4]", "lr = [0.1, 0.2]\nfirst_seed = 1", "tune.first_seed: seed 1 is one of the study's own"),
    (TUNED, "seeds = 2", "seeds = 2\nfirst_seed = 1099", "tune.first_seed: seed 100 is one of the study's own"),
    (TUNED, "lr = [0.1, 0.2, 0.4]", "lr = [0.1, 0.2]\nfirst_seed = 999", "tune.first_seed: seeds to choose with lie below 1000"),
    (TUNED, PLAIN, '[{ build = "plain" }, { fit = { lr = 0.1 } }]', "arms.plain.chain[1]: fit: lr is chosen by tuning and said here"),
    (TUNED, "[arms.drop]", "[arms.drop]\ntune = { lr = [0.1, 0.2] }", "arms.drop.tune: the arm has no fit of its own to tune"),
    (TUNED, "[arms.plain]", "[arms.plain]\ntune = { lr = [0.1] }", "arms.plain.tune.lr: List should have at least 2 items"),
    (TUNED, "[arms.plain]", "[arms.plain]\ntune = { rate = [0.1, 0.2], lr = [1.0, 2.0] }", "unknown key 'rate'; known: lr (in"),
    (TUNED, "[arms.plain]", "[arms.plain]\ntune = [0.1, 0.2]", "arms.plain.tune must be true or false, not [0.1, 0.2]"),
    (TINY, "[arms.plain]", "[arms.plain]\ntune = { lr = [0.1, 0.2] }", "arms.plain.tune: the arm has a grid, but the study does not tune"),
    (TUNED.replace('"fit"', '{ fit = 1 }').replace("[arms.", "[arms."), "[arms.teacher]", "[arms.techer]", "unknown arm 'teacher'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "old", "new", "message"), MISTAKES, ids=[m[2][:30] for m in MISTAKES])
def test_a_mistake_is_one_line(text, old, new, message, tmp_path):
    assert old in text
    file = make(tmp_path, text.replace(old, new, 1))
    with pytest.raises(StudyError) as error:
        read(file)
    assert str(error.value).startswith(str(file))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_study_without_a_fit_has_nothing_to_tune(tmp_path):
    text = 'title = "t"\ndata = "synthetic"\n[tune]\nlr = [0.1, 0.2]\n[compare]\nbaseline = "a"\n[arms.a]\nchain = ["build"]\n'
    with pytest.raises(StudyError, match="tune: no arm has a fit to tune; leave it out"):
        read(make(tmp_path, text))


def test_a_study_that_does_not_tune_is_told_so(tmp_path, capsys):
    assert main(["tune", str(make(tmp_path)), "--device", "cpu"]) == 2
    assert "tunes nothing, its learning rates are what it says; say [tune] and the rates to try\n" in capsys.readouterr().err


# ---- who refuses until then


@pytest.mark.parametrize("command", ["plan", "status", "report", "publish", "reproduce"])
def test_nothing_is_done_with_a_rate_that_was_not_chosen(command, tmp_path, capsys):
    file = make(tmp_path, TUNED)
    assert main([command, str(file), "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no learning rate is chosen for teacher, plain, long and 1 more; `reducenet tune tiny` comes first" in said
    assert not (file.parent / "store").exists()


def test_run_tunes_first_where_that_is_needed(tmp_path, monkeypatch, capsys):
    engine, file = Engine(monkeypatch), make(tmp_path, TUNED)
    asked = []
    monkeypatch.setattr(drive, "drive", lambda made, *given, **more: asked.append(made) or {})
    assert main(["run", str(file), "--device", "cpu"]) == 0
    assert engine.played
    assert asked[0].study.chains["plain"][1]["fit"]["lr"] == 0.2
    before = len(engine.played)
    assert main(["run", str(file), "--device", "cpu"]) == 0
    assert len(engine.played) == before
    assert len(asked) == 2
    assert "tiny.tuned.json" in capsys.readouterr().out


def test_accept_goes_past_a_study_that_waits_for_its_choices(tmp_path):
    make(tmp_path, TUNED, "waiting")
    make(tmp_path, TINY, "ready")
    assert [made.name for made in accept._studies(tmp_path / "ablations")] == ["ready"]


# ---- what it costs, and what is said of it


def test_every_run_is_paid_for_once(tmp_path, monkeypatch):
    """Against a sum over the names of all that was played: an arm pays for its own variants, and for what no other choice has paid."""
    engine, file = Engine(monkeypatch), make(tmp_path, TUNED)
    choices, _ = tried(file)
    cost = {arm: sum(sum(map(ord, name)) for name in engine.played if name.startswith(f"{arm}:")) for arm in choices}
    assert {arm: choice.train_macs for arm, choice in choices.items()} == cost
    assert sum(cost.values()) == sum(sum(map(ord, name)) for name in engine.played)
    study = read(file)
    assert tuning_macs(study, "drop") == tuning_macs(study, "teacher") == cost["teacher"]
    assert tuning_macs(study, "lora") == cost["teacher"] + cost["lora"]
    assert tuning_macs(study, "long") == cost["long"]  # what pays for it is not its own cost
    untuned = make(tmp_path / "b", TUNED.replace("[arms.teacher]\n", "[arms.teacher]\ntune = false\n"))
    again = Engine(monkeypatch)
    found, _ = tried(untuned)
    runs = sum(sum(map(ord, name)) for name in again.played if name.startswith(("lora:", "teacher/")))
    assert found["lora"].train_macs == runs  # somebody has to pay for the teacher
    assert {name for name in again.played if "teacher" in name} == {"teacher/s100", "teacher/s101"}


def test_what_an_arm_goes_on_from_may_have_its_budget_from_others(tmp_path, monkeypatch):
    engine = Engine(monkeypatch)
    more = '\n[arms.more]\nafter = "long"\nchain = ["fit"]\n\n[arms.best]\nchain = [{ best_of = { arm = "more", tickets = 2 } }, "fit"]\n'
    file = make(tmp_path, TUNED + more)
    choices, _ = tried(file)
    assert list(choices) == ["teacher", "plain", "long", "lora", "more", "best"]
    played = {name: sum(map(ord, name)) for name in engine.played}
    assert choices["more"].train_macs == sum(cost for name, cost in played.items() if name.startswith("more:"))
    assert tuning_macs(read(file), "more") == choices["more"].train_macs + choices["long"].train_macs
    tickets = [name for name in played if "/s11" in name and not name.startswith(("teacher", "lora"))]  # no other choice has paid for these
    assert len(tickets) == 4
    assert choices["best"].train_macs == sum(cost for name, cost in played.items() if name in tickets or name.startswith("best:"))
    assert set(plan(file, device="cpu").ends) >= {("best", 0), ("best", 1)}


def test_what_pays_for_an_arm_is_no_cost_of_it_but_what_it_begins_with_is(tmp_path, monkeypatch):
    """Also where the two are the same run."""
    engine = Engine(monkeypatch)
    again = '\n[arms.again]\nchain = [{ build = "plain" }, { fit = { lr = 0.2 } }, { fit = { cost_of = "plain" } }]\n'
    file = make(tmp_path, TUNED + again)
    choices, _ = tried(file)
    begun = [name for name in engine.played if name.startswith(("again:", "plain:0.2/"))]
    assert len(begun) == 8
    assert tuning_macs(read(file), "again") == choices["again"].train_macs == sum(sum(map(ord, name)) for name in begun)


def test_the_report_shows_what_was_tried_and_chosen(tmp_path, monkeypatch):
    def share(arm, rate, seed):
        if arm == "lora":
            return None
        return min(1, rate / 10) if arm == "teacher" else 0.5 - abs(math.log2(rate / 0.2)) / 20

    Engine(monkeypatch, share)
    text = OWN.replace("seeds = 2", "seeds = 5").replace("lr = [0.4, 0.02]", "lr = [0.4, 0.2, 0.02]")
    tried(make(tmp_path, text))
    project = Project(tmp_path, text)
    page = project.report("--out", str(tmp_path / "page"))
    report = Report(read(project.file), read_rows(tmp_path / "page"))
    shown = {row["name"]: row for row in tuned.rows(report)}
    assert list(shown) == ["the teacher", "plain", "drop", "lora"]
    assert shown["plain"]["tried"] == "0.02: 33.39 · **0.2: 50.00** · 0.4: 45.00"
    assert shown["lora"]["tried"].startswith("**0.0125: diverged** · 0.025: diverged · ")
    assert shown["drop"]["tried"] == ""
    assert shown["drop"]["cost"] == shown["the teacher"]["cost"]
    macs = tuning_macs(report.study, "lora")
    assert shown["lora"]["cost"] == f"{macs / report.ledger['plain']:.2f}"
    said = tuned.sentence(report)
    assert "over seeds 100 and 101, which no result uses" in said
    assert "Widened beyond the grid, since the best rate was at its edge: the teacher and lora." in said
    assert "Best at the edge of what was tried, so that a better rate may lie beyond: the teacher." in said
    assert "Diverged at every rate: lora." in said
    assert "With the rate that the study says: long." in said
    assert "Not chosen" not in said
    waiting = tuned.sentence(Report(read(make(tmp_path / "c", text)), read_rows(tmp_path / "page")))
    assert waiting.endswith("With the rate that the study says: long. Not chosen yet: the teacher, plain and lora.")
    assert page["tuned.json"] == tuned_file(project.file).read_bytes()
    text = page["report.md"].decode()
    assert f"\n| drop |  | {shown['drop']['cost']} |\n" in text
    assert f"\n{said} Tuning cost counts" in text
    told = json.loads(page["tuned.json"])
    told["arms"]["lora"]["train_macs"] += 1
    tuned_file(project.file).write_text(json.dumps(told))
    assert project.report("--out", str(tmp_path / "page"))["summary.json"] != page["summary.json"]
    untuned = Report(read(make(tmp_path / "b", TINY)), read_rows(tmp_path / "page"))
    assert tuned.sentence(untuned) == ""
    assert tuned.rows(untuned) == []


def test_what_is_said_of_a_claim_names_the_studys_own_tuning(tmp_path, monkeypatch):
    file = make(tmp_path, OWN)
    assert "plain" not in rates.said(Records(tmp_path), read(file), ["plain"])  # nothing is chosen yet
    Engine(monkeypatch)
    tried(file)
    said = rates.said(Records(tmp_path), read(file), ["plain", "lora", "long", "drop"])
    assert "plain 0.4 (the best of 0.02, 0.4, 8 on validation images, tuned in the study itself)" in said
    assert "lora 0.2 (the best of 0.1, 0.2, 0.4 on" in said
    assert "No trial of its own chose that of long." in said


def test_a_study_of_the_project_that_waits_for_its_rates_has_no_report_yet():
    for file in sorted((ROOT / "ablations").glob("*.toml")):
        try:
            plan(file, device="cpu")
        except (Untuned, sources.DataError):  # whose images are not here has none either
            assert not (ROOT / "reports" / file.stem).exists()


def test_a_choice_is_its_own_proof():
    with pytest.raises(ValueError, match="lr 0.1 is not the best"):
        Choice(of="x", lr=0.1, train_macs=1, tried=[Variant(lr=lr, accuracy={"1": lr}) for lr in (0.1, 0.2)])


# ---- as a user runs it


@pytest.fixture
def unlocked(tmp_path, monkeypatch):
    """The engine runs while the source is being worked on."""
    monkeypatch.setattr(lock, "FILE", tmp_path / "lock.json")
    forget()
    yield
    forget()


SMALL = """
title = "small"
data = "synthetic"
seeds = 1
together = 1
build = { width = 4, stem_stride = 2 }
fit = { epochs = 1 }
tune = { lr = [0.05, 0.5], seeds = 1 }
compare = { baseline = "plain" }

[arms.plain]
chain = [{ build = "plain" }, "fit"]

[arms.teacher]
chain = [{ build = { expansion = 2 } }, { fit = { lr = 0.3 } }]
tune = false

[arms.student]
after = "teacher"
chain = ["drop_branch", { fit = { loss = "kd", teacher = "teacher" } }, "fuse"]
"""


@pytest.mark.slow
def test_run_tunes_plays_and_reports_by_real_kernels(tmp_path, unlocked, capsys):
    file, store = make(tmp_path, SMALL, "small"), Store(tmp_path / "ablations" / "store")
    assert main(["run", str(file), "--device", "cpu"]) == 0
    choices, entries = read_choices(file), sorted(store.folder.iterdir())
    assert set(choices) == {"plain", "student"}
    measured = [(entry, json.loads((entry / "result.json").read_text())) for entry in entries if (entry / "run.ipynb").is_file()]
    played = [(entry, result) for entry, result in measured if result["kind"] == "measured"]
    for arm, length in (("plain", 2), ("student", 5)):
        seen = {}
        for entry, result in played:
            fits = [move["fit"] for move in result["sentence"] if "fit" in move]
            told = json.loads((entry / "run.ipynb").read_text())["metadata"]["papermill"]["parameters"]
            if told["seed"] == 100 and len(result["sentence"]) == length and fits[-1]["lr"] != 0.3:  # which is the teacher's
                seen[fits[-1]["lr"]] = result["metrics"]["val_accuracy"]
        assert {variant.lr: variant.accuracy["100"] for variant in choices[arm].tried} == seen
        assert choices[arm].lr == min(lr for lr in seen if seen[lr] == max(seen.values()))
        assert read(file).chains[arm][-1 if arm == "plain" else -2]["fit"]["lr"] == choices[arm].lr
    once = tuned_file(file).read_bytes()
    tuned_file(file).unlink()
    for command in ("tune", "run", "report"):
        assert main([command, str(file), "--device", "cpu"]) == 0
    assert tuned_file(file).read_bytes() == once
    assert sorted(store.folder.iterdir()) == entries
    assert (tmp_path / "build" / "reports" / "small" / "index.html").is_file()
    assert "plain:0.05/s100 done" in capsys.readouterr().out
