"""A move, a loss, a block, a data set of one's own is one file; a word in a cell of a notebook is one too."""

import copy
import json
import subprocess
import sys
import textwrap

import nbformat
import papermill
import pytest
import torch
from studies import ROOT, TINY, here, make

from reducenet import attach, build, drop_branch, fit, freeze
from reducenet.cli import main
from reducenet.data.tensors import load
from reducenet.play import checkpoint
from reducenet.play.piece import play_piece
from reducenet.store import Store
from reducenet.study.plan import plan
from reducenet.study.read import StudyError, read
from reducenet.study.report.rows import collect
from reducenet.study.run import execute
from reducenet.words import MoveError, add, find, function, lock, whole

MY_WORDS = '''
"""One word of each kind."""

import copy

import torch
from torch import nn

from reducenet.data.tensors import Split
from reducenet.nets.blocks import PlainBlock
from reducenet.words import Above0, Share, block, dataset, loss, move


def _dull(by, **_):
    return "by 1 is by nothing" if by == 1 else None


@move(refuse=_dull)
def shrink(net: nn.Module, by: Share = 0.5) -> nn.Module:
    """The weights of the classifier, times `by`."""
    net = copy.deepcopy(net)
    with torch.no_grad():
        net.classifier.weight.mul_(by)
    return net


@loss("squared")
def squared(sharpness: Above0 = 1.0):
    """The squared distance of softmax and label."""

    def objective(net, x, y):
        logits = net(x)
        wanted = torch.nn.functional.one_hot(y, logits.shape[1])
        return ((sharpness * logits).softmax(1) - wanted).square().sum(1).mean(), logits

    return objective


@block("faint")
class Faint(PlainBlock):
    """A plain block whose body is weighed."""

    def __init__(self, in_planes: int, planes: int, stride: int = 1, *, weight: Share = 0.5):
        super().__init__(in_planes, planes, stride)
        self.weight = weight

    def body(self, x):
        return self.weight * super().body(x)


@dataset("stripes", classes=("down", "across"))
def stripes(paths):
    """256 + 64 + 64 images of stripes."""
    down = (torch.arange(12) // 2 % 2 * 200).to(torch.uint8).expand(12, 12)
    one = torch.stack([down, down.T])[:, None]
    labels = torch.arange(256) % 2
    return tuple(Split(one[labels[:n]].clone(), labels[:n]) for n in (256, 64, 64))
'''

STUDY = """
title = "words of my own"
data = "stripes"
seeds = 1
build = { width = 4 }
fit = { epochs = 1, lr = 0.05 }

[compare]
baseline = "plain"

[arms.plain]
chain = [{ build = "plain" }, "fit"]

[arms.faint]
chain = [{ build = { block = "faint", weight = 0.25 } }, "fit"]

[arms.squared]
chain = [{ build = "plain" }, { fit = { loss = "squared", sharpness = 2.0 } }]

[arms.shrunk]
after = "plain"
chain = [{ shrink = 0.25 }]
"""


@pytest.fixture
def my_words(tmp_path, monkeypatch, anew):
    """The file; the lock does not matter here."""
    monkeypatch.setattr(lock, "FILE", tmp_path / "lock.json")
    file = tmp_path / "my_words.py"
    file.write_text(MY_WORDS)
    return file


def check_rows(file):
    """Every arm is what calls in Python give."""
    made, store, images = plan(file, device="cpu"), Store(file.parent / "store"), load("stripes")
    found = {row.arm: row for row in collect(made, store)[0]}
    assert {arm: row.status for arm, row in found.items()} == dict.fromkeys(("plain", "faint", "squared", "shrunk"), "ok")
    assert {row.test_images for row in found.values()} == {64}
    size, quiet = dict(width=4, num_classes=2), dict(epochs=1, lr=0.05, device="cpu", progress=False)
    plain = fit(build("plain", **size), images, **quiet).net
    by_hand = {
        "plain": plain,
        "faint": fit(build("faint", weight=0.25, **size), images, **quiet).net,
        "squared": fit(build("plain", **size), images, loss="squared", sharpness=2.0, **quiet).net,
        "shrunk": function(find("sentence", "shrink"))(plain, 0.25),
    }
    for arm, net in by_hand.items():
        assert found[arm].network == checkpoint.digest(net), arm
        kept = checkpoint.load(store.entry(made.runs[made.ends[arm, 0]].trained) / "net.safetensors")
        assert checkpoint.digest(kept) == checkpoint.digest(net)


@pytest.mark.engine
def test_a_study_with_words_of_ones_own_is_planned_run_and_reported(my_words, tmp_path, capsys, anew):
    """In kernels, as `--words` says; each command is a process of its own, so each is told."""
    file, options = make(tmp_path, STUDY, "mine"), ["--device", "cpu", "--words", str(my_words)]
    assert main(["plan", str(file), *options]) == 0
    assert "shrink(by 0.25)" in " ".join(capsys.readouterr().out.split())
    anew()
    assert main(["run", str(file), *options, "--serial"]) == 0
    anew()
    assert main(["report", str(file), *options]) == 0
    assert (file.parents[1] / "build" / "reports" / "mine" / "results.csv").read_text().count(",ok,") == 4
    check_rows(file)


def test_the_same_in_this_process(my_words, tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "_papermill", here)
    monkeypatch.setattr("reducenet.study.preview.check", lambda made, store: None)
    file = make(tmp_path, STUDY, "mine")
    assert main(["run", str(file), "--device", "cpu", "--words", str(my_words), "--serial"]) == 0
    check_rows(file)


def test_without_the_file_its_words_are_unknown(my_words, tmp_path, capsys):
    file = make(tmp_path, STUDY, "mine")
    assert main(["plan", str(file), "--device", "cpu"]) == 2
    assert "unknown" in capsys.readouterr().err
    assert main(["words", "shrink"]) == 2
    assert main(["words", "shrink", "--words", str(my_words)]) == 0
    assert "The weights of the classifier, times `by`." in capsys.readouterr().out
    assert main(["words", "--words", str(tmp_path / "none.py")]) == 2
    assert "none.py: no such file of words" in capsys.readouterr().err


MIXED = TINY.replace('"drop_branch"]', '"drop_branch", "shrink"]')


def test_the_file_and_every_edit_of_it_touch_the_keys_of_the_arms_that_use_it_and_of_no_other(my_words, tmp_path, anew):
    def ends(text):
        anew()
        add(my_words)
        made = plan(make(tmp_path, text), device="cpu")
        return {arm: made.ends[arm, 0] for arm in made.study.arms}

    plain = {arm: key for (arm, seed), key in plan(make(tmp_path), device="cpu").ends.items() if seed == 0}
    assert ends(TINY) == plain  # a file of words, and nobody uses them
    before = ends(MIXED)
    assert {arm for arm in plain if before[arm] != plain[arm]} == {"drop"}
    my_words.write_text(MY_WORDS.replace("mul_(by)", "mul_(by * by)"))
    after = ends(MIXED)
    assert {arm for arm in before if after[arm] != before[arm]} == {"drop"}
    my_words.write_text(MY_WORDS.replace("mul_(by)", "mul_(by)  # in place").replace('"by 1 is by nothing"', '"by 1 is dull"'))
    assert after != ends(MIXED)
    my_words.write_text(MY_WORDS.replace("mul_(by)", "mul_(by)  # in place"))
    assert ends(MIXED) == before


def test_where_the_file_lies_changes_no_key(my_words, tmp_path, anew):
    add(my_words)
    before = plan(make(tmp_path, STUDY, "mine"), device="cpu").ends
    anew()
    (tmp_path / "elsewhere").mkdir()
    add(my_words.rename(tmp_path / "elsewhere" / "my_words.py"))
    assert plan(make(tmp_path, STUDY, "mine"), device="cpu").ends == before


# ---- the same words wherever they are said


MISTAKES = [
    ([{"build": "plain"}, {"fit": {"epochs": 1, "lr": -1}}], "fit: lr must be above 0, not -1"),
    ([{"build": {"block": "plane"}}], "build: unknown block 'plane' (did you mean 'plain'?); known: plain, scaler"),
    ([{"build": {"block": "plain", "expansion": 2}}], "build: nothing reads 'expansion' here; leave it out"),
    ([{"build": "plain"}, {"freeze": "al"}], "freeze: parts: unknown part 'al'; known: all"),
    ([{"build": "plain"}, {"attach": {"expansion": 2, "rank": 2}}], "attach: the width is given by expansion or by rank, not by both"),
    ([{"build": "plain"}, {"shrink": 1.5}], "shrink: by must be at most 1, not 1.5"),
    ([{"build": "plain"}, {"shrink": 1}], "shrink: by 1 is by nothing"),
    ([{"build": {"block": "faint", "weight": 2}}], "build: weight must be at most 1, not 2"),
    ([{"build": "plain"}, {"fit": {"epochs": 1, "loss": "squared", "sharpness": 0}}], "fit: sharpness must be above 0, not 0"),
]


def as_toml(value):
    return json.dumps(value) if not isinstance(value, dict) else "{ " + ", ".join(f"{k} = {as_toml(v)}" for k, v in value.items()) + " }"


def called(move, net):
    """The move as a call in Python."""
    ((name, given),) = move.items()
    made = function(find("sentence", name))
    given = given if isinstance(given, dict) else {find("sentence", name).parameters[0].name: given}
    return made(**given) if net is None else made(net, **({"data": load("synthetic")} if name == "fit" else {}), **given)


@pytest.mark.parametrize(("moves", "message"), MISTAKES, ids=[message[:40] for _, message in MISTAKES])
def test_a_study_a_notebook_and_a_call_refuse_in_the_same_words(moves, message, my_words, tmp_path):
    add(my_words)
    chain = f"chain = [{', '.join(map(as_toml, moves))}]"
    with pytest.raises(StudyError) as in_a_study:
        read(make(tmp_path, TINY.replace('chain = [{ build = "plain" }, "fit"]', chain)))
    with pytest.raises(MoveError) as in_a_notebook:  # this is what fit.ipynb calls
        play_piece(moves)
    net = None
    for move in moves[:-1]:
        net = called(move, net)
    with pytest.raises(MoveError) as in_python:
        called(moves[-1], net)
    assert str(in_a_notebook.value) == str(in_python.value)
    assert str(in_a_notebook.value).startswith(message)
    assert str(in_a_study.value).endswith(f"arms.plain.chain[{len(moves) - 1}]: {in_python.value}")


WHOLE_BUT_IMPOSSIBLE = [
    (["drop_branch", "drop_branch"], lambda net: drop_branch(drop_branch(net))),
    (["drop_branch", {"freeze": "stage9.*"}], lambda net: freeze(drop_branch(net), "stage9.*")),
    (["drop_branch", {"attach": {"at": "nowhere"}}], lambda net: attach(drop_branch(net), at="nowhere")),
    (["drop_branch", {"freeze": "all"}, {"fit": {"epochs": 1}}],
     lambda net: fit(freeze(drop_branch(net), "all"), load("synthetic"), epochs=1, device="cpu", progress=False)),
]  # fmt: skip


@pytest.mark.parametrize(("moves", "call"), WHOLE_BUT_IMPOSSIBLE, ids=lambda said: str(said)[:60] if isinstance(said, list) else "")
def test_what_a_network_refuses_is_refused_in_the_same_words_by_preview_run_and_call(moves, call):
    from reducenet.play.preview import Preview

    start = {"build": {"block": "scaler", "width": 4}}
    with pytest.raises(MoveError) as in_python:
        call(build(**start["build"], num_classes=4))
    with pytest.raises(MoveError) as in_a_run:
        play_piece([start, *moves])
    previewed = Preview({"arm": [whole(move) for move in [start, *moves]]}, load("synthetic")).refusal("arm")
    assert str(in_a_run.value) == str(in_python.value) == previewed


@pytest.mark.engine
def test_papermill_refuses_what_a_study_file_refuses(tmp_path):
    """`papermill ablations/fit.ipynb out.ipynb -y "moves: [...]"`, as a user would."""
    moves = "moves: [{build: plain}, {fit: {epochs: 1, lr: -1}}]"
    command = ["-m", "papermill", str(ROOT / "ablations" / "fit.ipynb"), str(tmp_path / "out.ipynb"), "-y", moves, "--no-progress-bar"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    assert "MoveError: fit: lr must be above 0, not -1" in done.stderr


# ---- in a cell


CELLS = [
    """
    from reducenet import build, drop_branch
    from reducenet.play.checkpoint import digest
    from reducenet.play.play import play
    from reducenet.words import MoveError, Share, block, find, move, whole
    from reducenet.nets.blocks import PlainBlock
    """,
    '''
    import copy

    @move
    def shrink(net, by: Share = 0.5):
        """Smaller."""
        net = copy.deepcopy(net)
        net.classifier.weight.data.mul_(by)
        return net

    @block("faint")
    class Faint(PlainBlock):
        """Fainter."""

        def __init__(self, in_planes, planes, stride=1, *, weight: Share = 0.5):
            super().__init__(in_planes, planes, stride)
            self.weight = weight
    ''',
    """
    net = play([{"build": {"block": "faint", "width": 4}}, {"shrink": 0.25}]).net
    print(type(net.stage1[0]).__name__, find("sentence", "shrink").says)
    print(digest(net) == digest(shrink(build("faint", width=4).eval(), 0.25)))
    """,
    """
    for refused in (lambda: shrink(net, 1.5), lambda: whole({"shrink": 1.5}), lambda: play([{"build": "plain"}, {"shrink": 1.5}])):
        try:
            refused()
        except MoveError as error:
            print(error)
    """,
    """
    @move
    def shrink(net, by: Share = 0.5, again: bool = False):
        return net

    print([p.name for p in find("sentence", "shrink").parameters])
    """,
]


@pytest.mark.engine
def test_a_word_in_a_cell_is_a_word_as_any_other(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(textwrap.dedent(cell).strip()) for cell in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "in.ipynb")
    papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", progress_bar=False, cwd=tmp_path)
    cells = nbformat.read(tmp_path / "out.ipynb", 4).cells
    printed = ["".join(output.get("text", "") for output in cell.outputs) for cell in cells if cell.cell_type == "code"]
    assert printed[2] == "Faint Smaller.\nTrue\n"
    assert printed[3] == "shrink: by must be at most 1, not 1.5\n" * 3
    assert printed[4] == "['by', 'again']\n"  # a cell that is run again, or edited, is what it says now


def test_a_loss_of_ones_own_is_a_function_too():
    """Without any word: a call may hand over the loss, or the block, itself."""
    net, data = build("plain", width=4, num_classes=4), load("synthetic").subset(128)

    def twice(net, x, y):
        logits = net(x)
        return 2 * torch.nn.functional.cross_entropy(logits, y), logits

    fitted = fit(copy.deepcopy(net), data, epochs=1, lr=0.05, loss=twice, device="cpu", progress=False)
    assert fitted.rows[0]["train_loss"] > 0
