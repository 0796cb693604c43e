import ipywidgets
import pytest
import torch
from studies import ROOT
from torch import nn

from reducenet import accuracy, drop_branch, load_data, macs, parameters, set_scaler
from reducenet.course import checks, drawing, nets
from reducenet.course.panels import ScalerPanel
from reducenet.course.parameters import ParameterError, check
from reducenet.course.prediction import predict, reveal
from reducenet.course.recorded import Recorded
from reducenet.course.scaler import Bench
from reducenet.nets.blocks import ScalerBlock
from reducenet.play.checkpoint import CheckpointError


@pytest.fixture(scope="module")
def bench():
    return Bench(nets.teachers(), load_data("fashion-mini"))


def test_shipped_teachers_are_those_of_the_recorded_study(bench):
    rows = Recorded("expansion").report.rows
    for expansion, teacher in bench.teachers.items():
        assert teacher.stage1[0].branch1[0].out_channels == 8 * expansion
        (recorded,) = rows[(rows.arm == f"e{expansion}") & (rows.seed == 0)].val_accuracy
        assert accuracy(teacher, bench.data, bench.data.val) == pytest.approx(recorded, abs=5e-4)  # one image, on another processor
        assert not teacher.training
    with pytest.raises(ValueError, match="there are 1, 2, 4, 8"):
        nets.teacher(3)


def test_a_damaged_shipped_net_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(nets, "FOLDER", tmp_path)
    (tmp_path / "teacher-e4.safetensors").write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match="teacher-e4.safetensors: not a readable checkpoint"):
        nets.teacher(4)


@pytest.mark.parametrize("expansion", [1, 8])
def test_a_reading_is_what_the_network_gives(bench, expansion):
    """Brute force, image by image, for teacher, student and the middle."""
    teacher = bench.teachers[expansion]
    for scaler, network in ((1.0, teacher), (0.5, set_scaler(teacher, 0.5)), (0.0, drop_branch(teacher))):
        reading = bench.read(scaler, expansion, image=7)
        with torch.no_grad():
            logits = torch.cat([network.eval()(bench.data.normalise(x[None])) for x in bench.held.images])
        assert reading.accuracy == pytest.approx((logits.argmax(1) == bench.held.labels).double().mean().item(), abs=2 / len(logits))
        assert reading.logits == pytest.approx(tuple(logits[7].tolist()), abs=1e-4)
        assert reading.label == bench.held.labels[7]
        assert reading.macs == macs(drop_branch(teacher) if scaler == 0 else teacher, (1, 28, 28))
    assert bench.read(0.0, expansion).parameters < bench.read(0.05, expansion).parameters
    assert teacher.stage1[0].scaler == 1.0  # reading changes nothing


def test_the_held_out_images_are_validation_images_of_every_class(bench):
    assert len(bench.held.labels) == 500
    assert bench.held.labels.bincount().min() >= 30
    known = {image.numpy().tobytes() for image in bench.data.val.images}
    assert all(image.numpy().tobytes() in known for image in bench.held.images)


def test_every_control_moves_every_read_out_once(bench, monkeypatch):
    panel = ScalerPanel(bench, scaler=1.0, expansion=4)
    calls = []
    read = bench.read
    monkeypatch.setattr(bench, "read", lambda *state: calls.append(state) or read(*state))
    before = panel.numbers.value, panel.block.value, panel.logits.value
    panel.scaler.value = 0.5
    assert calls == [(0.5, 4, 0)]
    assert all(a != b for a, b in zip(before, (panel.numbers.value, panel.block.value, panel.logits.value), strict=True))
    assert "between the two" in panel.numbers.value
    for expansion in (1, 2, 8):
        panel.expansion.value = expansion
        assert f"expansion {expansion}" in panel.block.value
    shown = panel.numbers.value
    panel.image.value = len(bench.held.labels) - 1
    assert panel.numbers.value == shown  # one image does not change the accuracy
    assert len(calls) == 5
    panel.scaler.value = 0.0
    student = parameters(drop_branch(bench.teachers[8])) - 168  # BNs fold away: 168 of their parameters
    assert "student, branch1 is gone" in panel.numbers.value
    assert f"{bench.read(0.0, 8).parameters:,}" in panel.numbers.value
    assert bench.read(0.0, 8).parameters == student


def test_a_teacher_is_called_so_at_the_scaler_it_was_trained_with(bench):
    half = Bench({4: set_scaler(bench.teachers[4], 0.5)}, bench.data, images=50)
    assert half.read(0.5, 4).as_trained
    assert not half.read(1.0, 4).as_trained
    assert not half.read(0.0, 4).as_trained


def test_the_panel_shows_what_bench_says(bench):
    panel = ScalerPanel(bench, scaler=0.0, expansion=2)
    reading = bench.read(0.0, 2)
    for text in (f"{100 * reading.accuracy:.1f} %", f"{reading.parameters:,}", f"{reading.macs:,}", f"{1e3 * reading.latency:.2f} ms"):
        assert text in panel.numbers.value


def test_the_branch_fades_and_drawings_can_be_read_aloud(bench):
    opacity = [drawing.block(s, 4).split('<g opacity="')[1].split('"')[0] for s in (0.0, 0.5, 1.0)]
    assert [float(o) for o in opacity] == [0.1, 0.55, 1.0]
    assert "branch 1, expansion 4, gone: this is the student" in drawing.block(0.0, 4)
    bars = drawing.logits((0.5, 2.0, -1.0), ("a", "b & c", "d"), label=0)
    assert "highest for b &amp; c, wrong, it is: a" in bars
    assert bars.count("<rect") == 3


def test_check_names_what_is_wrong():
    check({"seed": 1, "x": 0.5, "_private": 3, "In": []}, seed=int, x=(0.0, 1.0))
    for names, message in (
        ({"seed": 1, "sede": 2}, "unknown parameter 'sede'; known: seed"),
        ({"seed": True}, "seed = True must be a int"),
        ({"seed": 1.5}, "seed = 1.5 must be a int"),
    ):
        with pytest.raises(ParameterError, match=message):
            check(names, seed=int)


def test_a_cell_that_is_run_again_knows_the_names_of_its_page():
    names = {"seed": 1}
    check(names, seed=int)
    names |= {"torch": torch, "panel": object()}
    check(names, seed=int)
    names["seed"] = "one"
    with pytest.raises(ParameterError, match="must be a int"):
        check(names, seed=int)


def test_a_prediction_is_optional():
    radio = predict("Which?", ["one", "two"])
    assert isinstance(radio, ipywidgets.RadioButtons)
    assert "nothing yet" in reveal(radio, "two").data
    radio.value = "one"
    assert "one" in reveal(radio, "two").data


WRONG = {
    "branch1 is in it": lambda b, x: b(x),
    "the shortcut is missing": lambda b, x: b.post(b.bn3(b.conv3(b.branch2(x)))),
    "the final ReLU is missing": lambda b, x: b.bn3(b.conv3(b.branch2(x))) + b.shortcut(x),
    "bn3 is missing": lambda b, x: b.post(b.conv3(b.branch2(x)) + b.shortcut(x)),
    "differs by up to": lambda b, x: b.post(b.bn3(b.conv3(b.branch2[0](x))) + b.shortcut(x)),
    "differs by up to 1e-06": lambda b, x: b.post(b.bn3(b.conv3(b.branch2(x))) + b.shortcut(x)) + 1e-6,
    "expected a tensor of shape": lambda b, x: b.branch2(x).sum(),
    "stops with": lambda b, x: b.branch3(x),
}


def test_the_exercise_accepts_the_solution_and_no_wrong_answer():
    right = checks.student_forward(lambda b, x: b.post(b.bn3(b.conv3(b.branch2(x))) + b.shortcut(x)))
    assert right.mark == "✓"
    assert checks.student_forward(lambda b, x: ...).mark == "☐"
    for cause, wrong in WRONG.items():
        verdict = checks.student_forward(wrong)
        assert verdict.mark == "✗", cause
        assert cause in verdict.text


def test_the_block_that_the_page_derives_is_the_packages(images):
    """The cell as it stands on the page: same names, so that weights fit, and the same function, with and without the branch."""
    page = (ROOT / "notebooks" / "src" / "03_scaler_branch.py").read_text()
    (cell,) = [cell for cell in page.split("# %%") if "class MyBlock" in cell]
    names = {"nn": nn, "torch": torch}
    exec(cell, names)
    theirs, x = ScalerBlock(4, 8, stride=2, expansion=3, scaler=0.7).double(), images(4, 9)
    mine = names["MyBlock"](4, 8, stride=2, expansion=3, scaler=0.7).double()
    mine.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(mine(x), theirs(x), rtol=0, atol=1e-12)
    mine.scaler = 0.0
    student = drop_branch(nn.Sequential(theirs.eval()))
    torch.testing.assert_close(mine.eval()(x), student(x), rtol=0, atol=1e-12)


def test_recorded_numbers_are_the_rows():
    quick = Recorded("quick")
    rows = quick.report.rows
    mean = 100 * rows[(rows.arm == "drop-ce") & (rows.status == "ok")].test_accuracy.mean()
    assert f"{mean:.1f} %" in quick.clause("drop-ce")
    assert "points against the plain student" in quick.say("drop-ce").data
    gap = quick.report.values["drop-fc"] - quick.report.values["plain-long"]
    assert f"{gap.mean():+.2f}".replace("-", "−") in quick.say(("drop-fc", "plain-long")).data
