"""`reducenet try`: a network and images of one's own, four arms, one command; and what a network that is not ours draws at random."""

import json
import re
import shlex

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from studies import ROOT, here, make

from reducenet import drop_branch, fit, widen
from reducenet.cli import main, parser
from reducenet.data.tensors import about, load
from reducenet.nets.seeding import drawing_from
from reducenet.nets.widened import Widened
from reducenet.play import checkpoint
from reducenet.play.play import Bench, play
from reducenet.store import Store
from reducenet.study.plan import plan
from reducenet.study.read import StudyError, read
from reducenet.study.report.runs import parameters
from reducenet.study.report.tables import read_rows
from reducenet.study.run import execute
from reducenet.study.trial import prepared
from reducenet.words import add, find, function, lock

NETWORKS = '''
"""Networks of mine, which know nothing of seeds."""

from torch import nn

from reducenet.words import Positive, build


@build
def mine(channels: Positive = 3, *, num_classes: int, in_channels: int) -> nn.Module:
    """A conv, a Dropout, a classifier."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(), nn.Dropout(0.3),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, num_classes))
'''
OTHER = '''

@build
def other(*, num_classes: int, in_channels: int) -> nn.Module:
    """Another."""
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))
'''


@pytest.fixture
def place(tmp_path, monkeypatch, anew):
    """A folder with a network, images, and a process that knows neither; runs are played in it. The lock does not matter here."""
    monkeypatch.setattr(lock, "FILE", tmp_path / "lock.json")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETWORKS)
    draw, labels = np.random.default_rng(0), np.arange(120) % 2
    images = draw.integers(0, 100, (120, 8, 8)) + 100 * labels[:, None, None] * (np.arange(8) % 2)
    np.savez("mine.npz", images=images.astype(np.uint8), labels=labels, classes=np.array(["plain", "striped"]))
    return tmp_path


@pytest.fixture
def quick(monkeypatch):
    """Runs in this process, previews not at all."""
    monkeypatch.setattr(execute, "_papermill", here)
    monkeypatch.setattr("reducenet.study.preview.check", lambda made, store: None)
    monkeypatch.setattr("reducenet.study.preview.refusals", lambda made, store: [])


TRY = ["try", "nets.py", "mine.npz", "--seeds", "1", "--epochs", "2", "--expansion", "2", "--lr", "0.05", "--serial", "--device", "cpu"]


def test_one_command_gives_the_report_of_four_arms(place, quick, capsys):
    assert main(TRY) == 0
    said = capsys.readouterr().out
    assert "No result: 1 seed an arm" in said
    assert "mine-tried/report/index.html" in said
    rows = read_rows(place / "mine-tried" / "report").set_index("arm")
    assert list(rows.index) == ["teacher", "plain", "plain-long", "dropped"]
    assert set(rows.status) == {"ok"}
    assert rows.parameters["plain"] == rows.parameters["plain-long"] == rows.parameters["dropped"] < rows.parameters["teacher"]
    assert rows.ledger_macs["dropped"] == rows.ledger_macs["teacher"] + rows.ledger_macs["plain"]
    assert abs(rows.ledger_macs["plain-long"] / rows.ledger_macs["dropped"] - 1) < 0.25  # whole epochs
    assert rows.test_images["plain"] == 24
    study = plan("mine-tried/mine.toml", "cpu")
    data, quietly = load("mine.npz"), dict(epochs=2, lr=0.05, device="cpu", progress=False)
    with drawing_from(0, "mine"):
        net = function(find("sentence", "mine"))(num_classes=2, in_channels=1).eval()
    wide = widen(net, expansion=2)
    with drawing_from(0, "fit", 0):
        teacher = fit(wide, data, **quietly).net
    student = drop_branch(teacher)
    with drawing_from(0, "fit", 1):
        dropped = fit(student, data, nth_fit=1, **quietly).net
    kept = {arm: Store("mine-tried/store").result(study.runs[study.ends[arm, 0]].trained) for arm in rows.index}
    assert kept["teacher"]["network"] == checkpoint.digest(teacher)
    assert kept["dropped"]["network"] == checkpoint.digest(dropped)
    page = (place / "mine-tried" / "report" / "report.md").read_text()
    assert str(place) not in page
    assert "There: 84 images to train on, 12 for validation, 24 for testing (20% of each class" in page
    assert f"mean {data.mean.item():.3f} and deviation {data.std.item():.3f} of the training images" in page
    assert "in 2 classes" in page
    assert "    reducenet run mine-tried/mine.toml --words nets.py\n" in page
    told = (place / "mine-tried" / "report" / "runs" / "dropped.s0.html").read_text()
    assert "reducenet run mine-tried/mine.toml --words nets.py --only dropped/s0" in told
    assert json.loads((place / "mine-tried" / "report" / "images.json").read_text()) == about(data)
    assert "data = '../mine.npz'" in parameters(study.called("plain/s0"), study.study.data)  # what is published of a run
    assert main(TRY) == 0  # all is in the store
    assert "0 left" not in capsys.readouterr().out
    assert main([*TRY, "--at", "0"]) == 2
    assert "mine.toml: is there already and says something else" in capsys.readouterr().err


def test_what_is_written_is_a_study_as_any_other(place):
    add("nets.py")
    file, new = prepared("nets.py", "mine.npz", "deep/er", at='0"', expansion=3, epochs=7, lr=0.25, seeds=9)
    study = read(file)
    assert new
    assert prepared("nets.py", "mine.npz", "deep/er", at='0"', expansion=3, epochs=7, lr=0.25, seeds=9) == (file, False)
    assert (study.data, study.seeds, study.fit) == ("../../mine.npz", 9, {"epochs": 7, "lr": 0.25})
    assert study.images == str(place / "deep" / "er" / ".." / ".." / "mine.npz")
    assert [[next(iter(move)) for move in chain] for chain in study.chains.values()] == [
        ["mine", "widen", "fit"], ["mine", "fit"], ["mine", "fit"], ["mine", "widen", "fit", "drop_branch", "fit"]]  # fmt: skip
    assert study.chains["teacher"][1] == {"widen": {"at": '0"', "expansion": 3, "scaler": 1.0}}
    assert read(prepared("nets.py", "synthetic", "a")[0]).data == "synthetic"
    (place / "pictures" / "a").mkdir(parents=True)
    assert read(prepared("nets.py", "pictures", "b")[0]).data == "../pictures/"


@pytest.mark.parametrize(("text", "net", "why"), [
    (NETWORKS + OTHER, None, "nets.py: several networks are declared there, say which with --net: mine, other"),
    (NETWORKS, "min", r"nets.py: unknown network 'min' \(did you mean 'mine'\?\); known: mine"),
    (NETWORKS.replace("build", "move"), None, "nets.py: no network is declared there; put @build"),
])  # fmt: skip
def test_which_network_is_meant(text, net, why, place):
    (place / "nets.py").write_text(text)
    add("nets.py")
    with pytest.raises(StudyError, match=why):
        prepared("nets.py", "mine.npz", net=net)
    assert not list(place.glob("*-tried"))


@pytest.mark.parametrize(("arguments", "why"), [
    (["nets.py", "none.npz"], "none.npz: there is no such file"),
    (["nets.py", "mine.npy"], "unknown data set 'mine.npy'"),
    (["none.py", "mine.npz"], "none.py: no such file of words"),
    (["nets.py", "mine.npz", "--epochs", "0"], "fit: epochs must be at least 1, not 0"),
    (["nets.py", "mine.npz", "--expansion", "0"], "widen: expansion must be at least 1, not 0"),
])  # fmt: skip
def test_bad_input_is_one_line(arguments, why, place, quick, capsys):
    assert main(["try", *arguments, "--device", "cpu", "--serial"]) == 2
    error = capsys.readouterr().err
    assert why in error
    assert error.count("\n") == 1
    assert not list(place.glob("*/*.toml"))  # what was wrong is not in the way of the next try


@pytest.mark.engine
def test_a_pattern_that_matches_nothing_is_refused_before_anything_trains(place, capsys):
    assert main([*TRY, "--at", "layer*"]) == 2
    said = " ".join(capsys.readouterr().out.split())
    assert "arms.teacher: widen: no conv with a BN and an activation behind it matches 'layer*'; there are: 0" in said
    assert not list((place / "mine-tried" / "store").glob("*/result.json"))
    assert not list(place.glob("*/*.toml"))


# ---- what a network that is not ours draws


def test_a_network_that_knows_nothing_of_seeds_starts_from_the_seed_and_so_does_its_dropout(place):
    add("nets.py")
    data = load("mine.npz")

    def digest(seed, *sentence):
        torch.rand(seed + len(sentence))  # whatever was drawn before
        return checkpoint.digest(play([{"mine": {}}, *sentence], Bench(data), seed=seed).net)

    trained = {"fit": {"epochs": 1, "lr": 0.05, "loss": "ce"}}
    assert digest(0) == digest(0)
    assert digest(0) != digest(1)
    assert digest(0, trained) == digest(0, trained)
    before = torch.get_rng_state()
    play(["build", trained], Bench(load("synthetic").subset(128)))
    assert torch.equal(torch.get_rng_state(), before)  # and nobody else's draws are touched
    masks = [play([{"mine": {}}, trained], Bench(data), seed=0, nth_fit=nth).rows[0]["train_loss"] for nth in (0, 1)]
    assert masks[0] != masks[1]


def test_a_study_of_ones_own_network_is_read_with_its_word_alone(place):
    file = make(
        place,
        'title = "t"\ndata = "synthetic"\nseeds = 1\ncompare = { baseline = "a" }\n[arms.a]\nchain = [{ mine = 4 }, { fit = 1 }]\n',
        "one",
    )
    with pytest.raises(StudyError, match="unknown move 'mine'"):
        read(file)
    add("nets.py")
    assert read(file).chains["a"][0] == {"mine": {"channels": 4}}


# ---- the page about it

PAGE = (ROOT / "docs" / "own.md").read_text(encoding="utf-8")


def test_what_the_page_shows_works(place):
    commands, (word, calls), (study,) = (re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) for language in ("sh", "python", "toml"))
    for command in commands:
        options = parser().parse_args(shlex.split(command)[1:])
        assert (options.command, options.network, options.images) == ("try", "my_network.py", "my_images.npz")
    exec(calls, {})
    (place / "my_network.py").write_text(word)
    (place / "mine.npz").rename("my_images.npz")
    add("my_network.py")
    head = 'title = "t"\nseeds = 1\ncompare = { baseline = "teacher" }\nfit = { epochs = 1 }\n'
    (place / "study.toml").write_text(head + study)
    made = plan("study.toml", "cpu")
    played = play(made.study.chains["teacher"][:2], Bench(load("my_images.npz").subset(16)))
    assert [name for name, m in played.net.named_modules() if isinstance(m, Widened)] == ["0"]
    for file in re.findall(r"\]\(([^)]+)\)", PAGE):
        assert (ROOT / "docs" / file).exists()


def test_the_example_is_torchvisions_network(anew):
    """Of 64 channels, but for the stem, it is torchvision's, tensor by tensor."""
    add(ROOT / "examples" / "resnet18.py")
    made = function(find("sentence", "resnet18"))
    mine, theirs = made(64, num_classes=1000).state_dict(), torchvision.models.resnet18().state_dict()
    assert [key for key in theirs if mine[key].shape != theirs[key].shape] == ["conv1.weight"]
    assert list(mine) == list(theirs)
    assert made(4, num_classes=10, in_channels=1)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    chains = read(ROOT / "examples" / "resnet18.toml").chains
    assert {tuple(move) for chain in chains.values() for move in chain} >= {
        ("resnet18",),
        ("widen",),
        ("drop_branch",),
        ("fit",),
        ("fuse",),
    }


def test_the_example_was_run_and_says_what_its_rows_say():
    """By the rows alone: what a report looks like may change after it was written."""
    folder = ROOT / "examples" / "resnet18"
    rows, said = pd.read_csv(folder / "results.csv"), json.loads((folder / "summary.json").read_text())
    assert list(rows.status) == ["ok"] * 30
    accuracy = 100 * rows.pivot(index="seed", columns="arm", values="test_accuracy")
    for pair in said["contrasts"]:
        assert pair["mean"] == pytest.approx((accuracy[pair["arm"]] - accuracy[pair["against"]]).mean(), rel=1e-4)
    assert said["answer"] in (folder / "report.md").read_text()
    sizes = rows.groupby("arm").parameters.unique()
    assert {tuple(found) for arm, found in sizes.items() if arm != "teacher"} == {(sizes["plain"][0],)}
    assert sizes["teacher"][0] > sizes["plain"][0]
    cost = rows.set_index(["arm", "seed"]).ledger_macs
    assert ((cost["plain-long"] / cost["drop-ce"] - 1).abs() < 0.01).all()
    assert rows.fuse_error.max() < 1e-10
