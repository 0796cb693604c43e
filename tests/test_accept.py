"""Does a change to the code change a number? Runs are played again; here a fake plays them, and once the real one does."""

import json
import platform
import re
import shutil
import subprocess
import sys

import pytest
import torch
from studies import ROOT, TINY, make

from reducenet.cli import main
from reducenet.play import rounding
from reducenet.store import Store, write_result
from reducenet.study import accept as accepting
from reducenet.study.accept import accept, blamed
from reducenet.study.plan import plan
from reducenet.study.read import StudyError
from reducenet.words import KINDS, lock, words

WORDS = TINY.replace("seeds = 2", "seeds = 1")
HERE = "AVX, cpu, torch 2"
EVERY = {lock.name_of(word): word for kind in KINDS for word in words(kind).values()}


class World:
    """A project whose lock knows the source as it is, with a proof from this machine. Nothing is trained; `changes` are to the numbers."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.changes, self.asked = folder / "ablations", {}, []
        make(folder, WORDS, "words")
        monkeypatch.setattr(lock, "FILE", folder / "lock.json")
        monkeypatch.setattr(accepting, "machine", lambda: HERE)
        monkeypatch.setattr(accepting, "_devices", lambda: ["cpu"])
        monkeypatch.setattr(accepting, "_replayed", self.replayed)
        self.write()
        assert accept(False, self.folder) == 0
        self.asked.clear()

    def write(self, *stale, **more):
        """The lock as it would be written now; the sources of those that are `stale` were others."""
        entry = lambda name, found: {"version": f"first {name}", "source": "other" if name in stale else found}  # noqa: E731
        self.lock = {"shared": {part: entry(part, lock.shared_source(part)) for part in lock.SHARED_PARTS},
                     "words": {name: entry(name, lock.source(word)) for name, word in EVERY.items()}, "proofs": {}} | more  # fmt: skip
        lock.FILE.write_text(json.dumps(self.lock))

    def stale(self, *names):
        """The source of these has changed since the last proof."""
        self.write(*names, proofs=lock.known()["proofs"])

    def replayed(self, runs, datasets=()):
        for name in datasets:
            yield {"name": f"dataset {name}", "train": self.changes.get(f"dataset {name}", "same")}
        for run in runs:
            self.asked.append(run["name"])
            numbers = {"network": "same", "train": "same", "count": "same", "measure": "same"}
            yield {"name": run["name"], **numbers, **self.changes.get(run["name"].split(" ")[0], {})}

    def versions(self):
        found = lock.known()
        return {name: entry["version"] for part in ("words", "shared") for name, entry in found[part].items()}

    def raised(self):
        return {name for name, found in self.versions().items() if found != f"first {name}"}


@pytest.fixture
def world(tmp_path, monkeypatch, anew):
    return World(tmp_path, monkeypatch)


def other(*parts):
    return dict.fromkeys(parts, "other")


def test_every_word_is_played_at_two_widths_and_by_two_where_it_can_be(world):
    world.write()
    assert accept(False, world.folder) == 0
    assert {name.split(" ", 1)[1] for name in world.asked} == {"width 4 cpu", "width 8 cpu", "by two cpu"}
    assert {name.split("/")[0] for name in world.asked} == {"teacher", "plain", "long", "drop", "lora@2", "lora"}
    assert len([name for name in world.asked if "by two" not in name]) == 12
    by_two = {name.split(" ")[0] for name in world.asked if "by two" in name}
    assert by_two == {f"{arm}/s{seed}" for arm in ("teacher", "plain", "long", "lora@2", "lora") for seed in (0, 1)}
    assert set(lock.known()["proofs"][HERE]) == {*world.asked, *(f"dataset {name}" for name in words("dataset"))}


def test_where_nothing_has_changed_nothing_is_played_again(world, capsys):
    before = lock.FILE.read_text()
    assert accept(False, world.folder) == 0
    assert world.asked == []
    assert lock.FILE.read_text() == before
    assert "is up to date" in capsys.readouterr().out


def test_equal_numbers_keep_the_version_and_the_lock_learns_the_source(world, capsys):
    world.stale("loss kd")
    assert accept(False, world.folder) == 0
    assert {name.split("/")[0] for name in world.asked} == {"teacher", "lora@2"}  # what uses it, and what that goes on from
    assert world.raised() == set()
    assert lock.known()["words"]["loss kd"]["source"] == lock.source(EVERY["loss kd"])
    assert "loss kd: equal in 4 runs, keeps its version" in capsys.readouterr().out


def test_a_word_with_equal_numbers_is_not_raised_even_where_it_may_be(world):
    world.stale("loss kd", "block plain", "fold")
    world.changes = {"lora@2/s0": other("train", "measure"), "lora/s0": other("train", "measure")}
    assert accept(True, world.folder) == 0
    assert "loss kd" in world.raised()
    assert "block plain" not in world.raised()


@pytest.mark.parametrize("lacks", ['data = "cifar10"', 'data = "synthetic"\ntune = { lr = [0.1, 0.2] }'])
def test_a_study_that_cannot_be_planned_here_has_no_runs_to_ask_for(world, lacks, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("REDUCENET_DATA", str(tmp_path / "nothing"))
    make(world.folder.parent, TINY.replace('data = "synthetic"', lacks), "absent")
    world.stale("loss kd")
    assert accept(False, world.folder) == 0
    assert "loss kd: equal in 4 runs, keeps its version" in capsys.readouterr().out
    world.stale("loss kd")
    world.changes = {"lora@2/s0": other("train")}
    assert accept(False, world.folder) == 1  # and what is to be trained again is told of the others


def test_an_ill_formed_study_is_said_before_anything_is_played(world):
    make(world.folder.parent, TINY.replace("seeds = 2", "seeds = 0"), "wrong")
    world.stale("loss kd")
    with pytest.raises(StudyError, match="wrong.toml: seeds"):
        accept(False, world.folder)
    assert world.asked == []


def test_other_numbers_raise_the_version_if_they_may_and_change_nothing_if_not(world, capsys):
    world.stale("drop_branch")
    world.changes = {"drop/s0": other("train"), "lora@2/s0": other("train"), "lora/s0": other("train")}
    before = lock.FILE.read_text()
    assert accept(False, world.folder) == 1
    assert lock.FILE.read_text() == before
    said = capsys.readouterr().out
    assert "drop_branch: other numbers in drop/s0 width 4 cpu, drop/s0 width 8 cpu, lora@2/s0 by two cpu, lora@2/s0 width 4 cpu" in said
    assert "nothing is changed; `reducenet accept --raise` raises drop_branch" in said
    assert accept(True, world.folder) == 0
    assert world.raised() == {"drop_branch"}
    assert world.versions()["drop_branch"] == lock.source(EVERY["drop_branch"])
    assert lock.known()["proofs"][HERE]["drop/s0 width 4 cpu"]["train"] == "other"
    world.asked.clear()
    assert accept(False, world.folder) == 0
    assert world.asked == []


def test_one_width_with_other_numbers_is_enough(world, monkeypatch):
    world.stale("loss kd")
    replayed = accepting._replayed
    monkeypatch.setattr(accepting, "_replayed", lambda *asked: (
        found | (other("train") if found["name"] == "lora@2/s0 width 8 cpu" else {}) for found in replayed(*asked)))  # fmt: skip
    assert accept(True, world.folder) == 0
    assert world.raised() == {"loss kd"}


def test_what_trains_together_is_tried_on_what_is_trained_together(world):
    world.stale("together")
    world.changes = {name: other("train") for name in ("teacher/s0", "lora@2/s0", "lora/s0", "long/s0")}
    assert accept(True, world.folder) == 0
    assert all("by two" in name for name in world.asked)
    assert world.raised() == {"together"}


def test_what_all_runs_share_is_tried_on_all(world, capsys):
    world.stale("train")
    assert accept(False, world.folder) == 0
    assert len(world.asked) == 12 + 10
    assert "train: equal in " in capsys.readouterr().out
    world.stale("measure")
    world.changes = {name: other("measure") for name in ("teacher/s0", "plain/s0", "long/s0", "drop/s0", "lora@2/s0", "lora/s0")}
    assert accept(True, world.folder) == 0
    assert world.raised() == {"measure"}


def test_a_word_whose_numbers_differ_only_as_they_are_measured_is_not_to_blame(world):
    world.stale("count", "drop_branch")
    world.changes = {"drop/s0": other("count")}
    assert accept(True, world.folder) == 0
    assert world.raised() == {"count"}


def test_a_run_that_only_goes_on_from_other_numbers_blames_nobody(world):
    """The teacher's word is to blame; what its pupil says for itself is seen elsewhere to be as it was."""
    world.stale("block scaler", "fit", "drop_branch")
    world.changes = {name: other("train", "measure") for name in ("teacher/s0", "drop/s0", "lora@2/s0", "lora/s0")}
    runs = accepting._runs(world.folder)
    proofs = lock.known()["proofs"][HERE]
    played = {name: proofs[name] | world.changes.get(name.split(" ")[0], {}) for name in runs}
    found = blamed(runs, played, proofs, {"block scaler", "loss kd", "fit"})
    assert "block scaler" in found
    assert "fit" not in found or "plain/s0 width 4 cpu" in played  # plain fits too, and is equal


def test_blame():
    """In small: `b` goes on from `a`; each uses words of its own, and `c` stands for itself."""

    class Run:
        def __init__(self, name, needs, used):
            self.key, self.needs, self.used = name, needs, used

    runs = {name: Run(name, needs, used) for name, needs, used in (("a", (), {"x"}), ("b", ("a",), {"y"}), ("c", (), {"y", "z"}))}
    same, differs = dict(train="1", count="1", measure="1"), dict(train="2", count="1", measure="2")
    proofs = dict.fromkeys(runs, same)

    def find(changed, **played):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(accepting, "_used_by", lambda name, runs: runs[name].used)
            return blamed(runs, {name: played.get(name, same) for name in runs}, proofs, changed)

    assert find({"x", "y"}) == {}
    assert find({"x"}, a=differs, b=differs) == {"x": ["a"]}
    assert find({"x", "y"}, a=differs, b=differs) == {"x": ["a"]}  # y is equal in c
    assert find({"x", "y"}, a=differs, b=differs, c=differs) == {"x": ["a"], "y": ["b", "c"]}
    assert find({"y"}, b=differs) == {"y": ["b"]}
    assert find({"y", "z"}, c=differs) == {"y": ["c"], "z": ["c"]}
    assert find({"train"}, a=differs, b=differs, c=differs) == {"train": ["a", "b", "c"]}
    assert find({"measure"}, a=dict(same, measure="2")) == {"measure": ["a"]}
    assert find({"measure", "x"}, a=dict(same, measure="2")) == {"measure": ["a"]}
    assert find({"count", "x"}, a=dict(same, count="2")) == {"count": ["a"]}
    assert find({"x"}, a=dict(same, measure="2")) == {"x": ["a"]}
    assert blamed(runs, {"a": differs}, {}, {"x"}) == {}  # no proof yet: nothing to differ from


def test_other_numbers_with_the_same_source_are_another_machine(world):
    world.write(proofs={HERE: {}})
    accept(False, world.folder)
    proofs = lock.known()["proofs"]
    del proofs[HERE]["drop/s0 width 4 cpu"]
    proofs[HERE]["teacher/s0 width 4 cpu"]["train"] = "what it was"
    world.write(proofs=proofs)
    with pytest.raises(StudyError, match="other numbers in teacher/s0 width 4 cpu, though no source has changed: another library"):
        accept(False, world.folder)


def test_a_change_is_not_judged_on_a_machine_without_a_proof(world, monkeypatch):
    monkeypatch.setattr(accepting, "machine", lambda: "NEON, cpu, torch 2")
    world.stale("fold")
    with pytest.raises(StudyError, match=rf"holds no proof from a machine like this \(NEON, cpu, torch 2; it has: {HERE}\)"):
        accept(False, world.folder)
    assert world.asked == []


def test_a_second_machine_adds_its_proof_and_a_raised_version_needs_new_ones(world, monkeypatch):
    monkeypatch.setattr(accepting, "machine", lambda: "NEON, cpu, torch 2")
    assert accept(False, world.folder) == 0
    assert set(lock.known()["proofs"]) == {HERE, "NEON, cpu, torch 2"}
    world.stale("drop_branch")
    world.changes = {"drop/s0": other("train")}
    assert accept(True, world.folder) == 0
    assert set(lock.known()["proofs"]) == {"NEON, cpu, torch 2"}  # the other's would prove numbers of the old version


def test_a_word_that_nothing_uses_is_not_proved(world, capsys):
    world.stale("snap")
    assert accept(False, world.folder) == 1
    assert "snap: nothing here uses it, so nothing is proved" in capsys.readouterr().out
    assert accept(True, world.folder) == 0
    assert world.raised() == {"snap"}


def test_a_data_set_is_read_again(world):
    world.stale("dataset fashion-mini")
    assert accept(False, world.folder) == 0
    assert world.raised() == set()
    world.stale("dataset fashion-mini")
    world.changes = {"dataset fashion-mini": "other images"}
    assert accept(True, world.folder) == 0
    assert world.raised() == {"dataset fashion-mini"}


def test_a_new_word_has_its_source_for_a_version(world):
    found = lock.known()
    del found["words"]["loss kd"], found["proofs"][HERE]["lora@2/s0 width 4 cpu"]
    lock.FILE.write_text(json.dumps(found))
    assert accept(False, world.folder) == 0
    assert world.versions()["loss kd"] == lock.source(EVERY["loss kd"])
    assert "lora@2/s0 width 4 cpu" in world.asked
    assert world.raised() == {"loss kd"}


def finished(world, name, seconds, network="same"):
    """A finished run of a study in the store of the project, and what it goes on from."""
    file = make(world.folder.parent, TINY, "tiny")
    made, store = plan(file, "cpu"), Store(world.folder / "store")
    for run in map(made.runs.get, made.ancestry(made.called(name).key)):
        if not store.entry(run.trained).exists():
            took = seconds if run.name == name else 1000.0
            folder = store.begin(run.trained)
            (folder / "net.safetensors").write_bytes(b"")
            write_result(
                folder, {"kind": "trained", "key": run.trained, "status": "ok", "network": network, "cost": {"train_seconds": took}}
            )
            store.publish(run.trained, folder)
    folder = store.begin(run.key)
    (folder / "correct.npy").write_bytes(b"")
    (folder / "run.ipynb").write_text("{}")
    write_result(folder, {"kind": "measured", "key": run.key, "status": "ok", "cost": {"seconds": 90.0}})
    store.publish(run.key, folder)


def test_the_cheapest_finished_run_of_a_changed_word_is_played_again(world, capsys):
    world.stale("drop_branch")
    finished(world, "drop/s0", 7.0)
    finished(world, "drop/s1", 5.0)
    finished(world, "lora@2/s1", 900.0)
    assert accept(False, world.folder) == 0
    assert [name for name in world.asked if name.startswith("tiny ")] == ["tiny drop/s1"]
    assert "tiny drop/s1, played again from the store: equal" in capsys.readouterr().out


def test_a_finished_run_with_other_numbers_raises_its_word_and_the_price_is_said(world, capsys):
    world.stale("drop_branch")
    finished(world, "drop/s0", 30.0, network="as it was")
    assert accept(False, world.folder) == 1
    said = capsys.readouterr().out
    assert "tiny drop/s0, played again from the store: other numbers" in said
    assert "\nwords: " not in said  # that study is played, not kept
    assert "drop_branch: other numbers in tiny drop/s0" in said
    assert "tiny: 8 of 12 runs would be trained again, 2 minutes of a core for 1 of them" in said  # of each seed four
    assert accept(True, world.folder) == 0
    assert world.raised() == {"drop_branch"}


def test_runs_that_took_long_are_not_played_again(world):
    world.stale("drop_branch")
    finished(world, "drop/s0", 61.0)
    assert accept(False, world.folder) == 0
    assert not [name for name in world.asked if name.startswith("tiny ")]


def test_what_was_paid_for_by_others_is_not_played_again(world):
    """Its epochs rest on what was measured elsewhere."""
    world.stale("block plain")
    finished(world, "long/s0", 3.0)
    assert accept(False, world.folder) == 0
    assert not [name for name in world.asked if name.startswith("tiny ")]


def test_the_command_says_yes_or_no(world, monkeypatch):
    monkeypatch.chdir(world.folder.parent)
    world.stale("drop_branch")
    world.changes = {"drop/s0": other("train")}
    assert main(["accept"]) == 1
    assert world.raised() == set()
    assert main(["accept", "--raise"]) == 0
    assert world.raised() == {"drop_branch"}


def test_a_helper_that_dies_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(StudyError, match="a run could not be played again: 1"):
        list(accepting._replayed([{"name": "x" * 1_000_000}]))


@pytest.mark.engine
def test_a_helper_plays_runs_again_and_finds_the_same_numbers(tmp_path):
    """The real one: a run, and one that goes on from a run of the store."""
    made = plan(make(tmp_path, WORDS), "cpu")
    one = [accepting._asked(made.called(name)) for name in ("teacher/s0", "drop/s0")]
    first, second, images = (
        accepting._replayed(one), accepting._replayed(one), accepting._replayed([], ["synthetic", "fashion-mini"]),
    )  # fmt: skip
    found = list(first)
    assert [line["name"] for line in found] == ["teacher/s0", "drop/s0"]
    assert list(second) == found
    assert found[0]["train"] != found[1]["train"]
    assert [(line["name"], len(line["train"])) for line in images] == [("dataset synthetic", 8), ("dataset fashion-mini", 8)]


@pytest.mark.engine
def test_a_machine_is_its_instructions_devices_and_torch():
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert re.match(rf"{said} [0-9a-f]{{8}}, cpu", accepting.machine())
    assert accepting.machine().endswith(f"torch {accepting.keys.numerics('cpu', 1)['torch']}")


@pytest.mark.engine
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="its libraries are told to do with less on x86 alone")
def test_a_machine_that_rounds_otherwise_is_another(monkeypatch):
    here = accepting.machine()
    assert accepting.machine() == here
    cut = {"ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}  # the same instructions for torch, older ones for what it calls
    for name, value in cut.items():
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            other = accepting.machine()
        assert other.split()[0] == here.split()[0]
        assert other != here


@pytest.mark.parametrize("layer", range(len(rounding.CONVS) + 1))
def test_a_difference_in_any_layer_is_another_machine(monkeypatch, layer):
    before, layers = rounding.rounding(), list(rounding._layers())
    with torch.no_grad():
        next(layers[layer][0].parameters())[0].mul_(1 + 2**-20)
    monkeypatch.setattr(rounding, "_layers", lambda: iter(layers))
    threads, drawn = torch.get_num_threads(), torch.get_rng_state()
    assert rounding.rounding() != before
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.slow
def test_the_project_gives_the_numbers_that_its_lock_has_proofs_of(tmp_path, monkeypatch, capsys):
    """Every word at two widths, played for real: `reducenet accept` with every source changed."""
    monkeypatch.chdir(ROOT)
    found = lock.known()
    if accepting.machine() not in found["proofs"]:
        pytest.skip(f"no proof from a machine like this ({accepting.machine()})")
    for entry in [*found["words"].values(), *found["shared"].values()]:
        entry["source"] = "other"
    monkeypatch.setattr(lock, "FILE", tmp_path / "lock.json")
    monkeypatch.setattr(accepting, "_from_store", lambda store, studies, changed: ())
    lock.FILE.write_text(json.dumps(found))
    assert main(["accept"]) == 0, capsys.readouterr().out
    after = lock.known()
    for part in ("words", "shared"):
        assert {name: entry["version"] for name, entry in after[part].items()} == {
            name: entry["version"] for name, entry in found[part].items()
        }
