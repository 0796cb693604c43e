"""The harness of the benchmarks computes what it says, on made-up clocks: no test here minds what a real one shows."""

import dataclasses
import itertools
import json
import os
import statistics

import pytest
import torch
from studies import ROOT

from benchmarks import convs, gpu, harness, results, table, usual
from benchmarks.__main__ import main
from benchmarks.crew import Crew
from benchmarks.figures import FIGURES, Figure
from benchmarks.harness import QUICK, CannotRun, at_least, at_most, interleave, row
from benchmarks.study import beside_seconds, images_alone, training_seconds
from benchmarks.training import STUDENT, TEACHER
from reducenet import DataError, build, load_data, macs


class Clock:
    """Sides that take what they are told to, on a machine that gets slower with every turn."""

    def __init__(self, slowing=0.0):
        self.turns, self.slowing = [], slowing

    def side(self, name, seconds):
        def turn():
            self.turns.append(name)
            return seconds * (1 + self.slowing * len(self.turns))

        return turn


def test_all_have_a_turn_in_each_round_and_every_other_goes_backwards():
    clock = Clock()
    given = interleave({name: clock.side(name, number) for number, name in enumerate("abc", 1)}, 3)
    assert "".join(clock.turns) == "abc" + "abc" + "cba" + "abc"  # the first of each warms up
    assert given == {"a": [1, 1, 1], "b": [2, 2, 2], "c": [3, 3, 3]}


def test_a_machine_that_gets_slower_meets_both_sides():
    """One side after the other would be far off: the last turns take six times as long as the first."""
    clock = Clock(slowing=0.5)
    given = interleave({"ours": clock.side("ours", 3.0), "reference": clock.side("reference", 2.0)}, 5)
    assert row("f", "s", given["ours"], given["reference"]).ratio == pytest.approx(1.5, rel=0.1)


def test_a_row_is_the_median_of_the_rounds_ratios():
    ours, reference = [4.0, 9.0, 2.0, 8.0, 5.0], [2.0, 3.0, 4.0, 2.0, 5.0]  # 2, 3, 1/2, 4, 1
    made = row("f", "s", ours, reference, holds_back="why", ours_is="this")
    assert (made.ours, made.reference, made.ratio, made.spread, made.runs) == (5.0, 3.0, 2.0, (0.5, 4.0), 5)
    assert made.ratio != statistics.median(ours) / statistics.median(reference)
    assert (made.reach, made.met, made.direction, made.holds_back, made.ours_is) == (None, None, "", "", "this")


@pytest.mark.parametrize(
    ("reach", "ratio", "met"),
    [
        (at_least(2.0), 2.0, True),
        (at_least(2.0), 1.99, False),
        (at_most(1.05), 1.05, True),
        (at_most(1.05), 1.06, False),
        (at_most(1.05), 0.2, True),
    ],
)
def test_a_reach_is_met_in_its_direction(reach, ratio, met):
    made = row("f", "s", [ratio], [1.0], reach=reach, holds_back="why")
    assert made.met is met
    assert (made.reach, made.direction) == (reach.bound, reach.direction)
    assert made.holds_back == ("" if met else "why")


# ---- what is recorded, and what is told


def rows(name, *ratios, **more):
    made = [row(f"{name} {number}", "s", [ratio], [1.0], **more) for number, ratio in enumerate(ratios)]
    return [dataclasses.replace(one, by=name, machine="two cores", versions="torch 1") for one in made]


def test_rows_take_the_place_of_their_own_in_the_order_of_the_figures(tmp_path):
    kept = [*rows("c", 1.0), *rows("gone", 2.0), *rows("b", 3.0, 4.0)]
    found = results.merged(kept, "b", rows("b", 5.0), ["a", "b", "c"])
    assert [(one.by, one.ratio) for one in found] == [("b", 5.0), ("c", 1.0)]
    found = results.merged(found, "a", rows("a", 6.0, 7.0), ["a", "b", "c"])
    assert [one.ratio for one in found] == [6.0, 7.0, 5.0, 1.0]
    results.write(found, tmp_path / "results.json")
    assert results.read(tmp_path / "results.json") == found
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]
    assert results.read(tmp_path / "nothing.json") == []


def test_a_record_names_what_the_table_needs(tmp_path):
    results.write(rows("a", 6.0), tmp_path / "results.json")
    (one,) = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert {"figure", "unit", "ours", "reference", "ratio", "reach", "met", "runs", "spread", "machine", "versions"} <= one.keys()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"rows": [{"figure": "f"}]}', '{"rows": 3}', "\xff"])
def test_a_damaged_record_is_one_line_and_stays(tmp_path, text, capsys):
    file = tmp_path / "results.json"
    file.write_bytes(text.encode("latin-1"))
    assert main([], {"a": Figure(lambda size: rows("a", 1.0))}, file, tmp_path / "page.md") == 2
    said = capsys.readouterr().err
    assert "cannot be read as rows" in said
    assert said.count("\n") == 1
    assert file.read_bytes() == text.encode("latin-1")


def test_the_page_is_what_the_record_says():
    assert table.PAGE.read_text(encoding="utf-8") == table.page(results.read())


def test_every_number_of_a_row_is_in_the_table_and_what_is_out_of_reach_says_why():
    met, out = rows("student", 1.04, reach=at_most(1.05)), rows("kd", 1.653, reach=at_most(1.05), holds_back="Somebody has to ask.")
    plain = [dataclasses.replace(one, machine="a GPU", ours=13_912.0, agrees="bitwise") for one in rows("side", 0.87)]
    page = table.page([*met, *out, *plain])
    assert "| student 0 | s | 1.04 | 1.00 | 1.04 | ≤ 1.05 | yes | 1 | 1.04 to 1.04 |" in page
    assert "| kd 0 | s | 1.65 | 1.00 | 1.65 | ≤ 1.05 | no | 1 | 1.65 to 1.65 |" in page
    assert "| side 0 | s | 13,912 | 1.00 | 0.87 |  |  | 1 | 0.87 to 0.87 |" in page
    assert page.index("## two cores") < page.index("kd 0") < page.index("## a GPU") < page.index("side 0")
    assert page.count("- **") == 1
    assert "- **kd 0.** Somebody has to ask." in page
    assert "`python -m benchmarks --only teacher`" in page
    assert "`python -m benchmarks --only kd`" not in page


@pytest.mark.parametrize(
    ("value", "said"), [(13912.4, "13,912"), (141.3, "141"), (99.96, "100.0"), (12.34, "12.3"), (1.236, "1.24"), (0.0312, "0.031")]
)
def test_numbers_have_three_digits_and_no_powers(value, said):
    assert table.number(value) == said


# ---- the command


def broken(size):
    raise ZeroDivisionError("a fault of ours")


def missing(size):
    raise CannotRun("needs onnx: pip install it")


def absent(size):
    raise DataError("data set 'x' is not here; get it")


def test_a_figure_that_cannot_run_or_breaks_keeps_its_row_and_the_others_go_on(tmp_path, capsys):
    file, page = tmp_path / "results.json", tmp_path / "page.md"
    asked = []
    figures = {
        "one": Figure(lambda size: asked.append(size) or rows("one", 1.0)),
        "absent": Figure(absent),
        "missing": Figure(missing),
        "broken": Figure(broken),
        "two": Figure(lambda size: rows("two", 2.0)),
        "long": Figure(lambda size: rows("long", 3.0), "asked"),
        "gpu": Figure(lambda size: rows("gpu", 4.0), "gpu"),
    }
    results.write([*rows("absent", 8.0), *rows("missing", 9.0), *rows("broken", 7.0), *rows("long", 6.0)], file)
    assert main([], figures, file, page) == 1
    said = capsys.readouterr()
    assert "missing: not measured, needs onnx: pip install it\n" in said.out
    assert "absent: not measured, data set 'x' is not here; get it\n" in said.out
    assert "ZeroDivisionError: a fault of ours" in said.err
    found = results.read(file)
    assert {one.by: one.ratio for one in found} == {"one": 1.0, "absent": 8.0, "missing": 9.0, "broken": 7.0, "two": 2.0, "long": 6.0}
    assert page.read_text() == table.page(found)
    assert asked == [harness.FULL]
    assert found[0].machine != "two cores"  # where it was measured
    assert next(one for one in found if one.by == "long").machine == "two cores"

    del figures["broken"]
    assert main(["--all"], figures, file, page) == 0
    assert {one.by: one.ratio for one in results.read(file)} == {"one": 1.0, "absent": 8.0, "missing": 9.0, "two": 2.0, "long": 3.0}
    assert main(["--only", "long", "--only", "two"], figures, file, page) == 0
    assert asked == [harness.FULL] * 2


def test_quick_records_nothing(tmp_path, capsys):
    asked = []
    figures = {"one": Figure(lambda size: asked.append(size) or rows("one", 1.25, reach=at_least(2), holds_back="Because."))}
    assert main(["--quick"], figures, tmp_path / "results.json", tmp_path / "page.md") == 0
    assert asked == [QUICK]
    assert list(tmp_path.iterdir()) == []
    said = capsys.readouterr().out
    assert "| one 0 | s | 1.25 |" in said
    assert "one 0: Because." in said


def test_a_machine_without_cuda_says_so_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    where = (FIGURES, tmp_path / "results.json", tmp_path / "page.md")
    assert main(["--gpu"], *where) == 2
    said = capsys.readouterr().err
    assert "no CUDA device" in said
    assert said.count("\n") == 1
    assert main(["--only", "gpu-training"], *where) == 0
    assert "gpu-training: not measured, it needs CUDA" in capsys.readouterr().out


def test_the_page_is_written_again_without_measuring(tmp_path):
    results.write(rows("kd", 1.5), tmp_path / "results.json")
    assert main(["--table"], {"kd": Figure(broken)}, tmp_path / "results.json", tmp_path / "page.md") == 0
    assert (tmp_path / "page.md").read_text() == table.page(rows("kd", 1.5))


# ---- what the sides do


def numbered(number, base, fails=False):
    count = itertools.count()

    def turn():
        if fails:
            raise {"data": DataError, "here": CannotRun, "fault": KeyError}[fails](f"of {number}")
        return 100 * base + 10 * number + next(count) + torch.get_num_threads() / 10

    return turn


def pid(number):
    return os.getpid


@pytest.mark.engine
def test_a_turn_of_a_crew_is_that_of_its_slowest_process():
    with Crew(2, 1, cores=1) as crew:
        one, other = crew.turn(numbered, 1), crew.each(numbered, base=2)
        assert one() == pytest.approx(110.1)
        assert other() == pytest.approx([200.1, 210.1])
        assert one() == pytest.approx(111.1)  # each made its turn once
        assert len({*crew.each(pid)(), os.getpid()}) == 3
        for fails, error in (("data", DataError), ("here", CannotRun), ("fault", RuntimeError)):
            with pytest.raises(error, match="of 0"):
                crew.turn(numbered, 1, fails=fails)()
        assert one() == pytest.approx(112.1)  # and goes on
        left = crew._processes
    assert not any(process.is_alive() for process in left)


def test_a_crew_without_cores_is_refused():
    with pytest.raises(CannotRun, match=r"needs 100000 cores, this process may use \d+"):
        Crew(100, 1000)


@pytest.mark.parametrize("made", [STUDENT, TEACHER])
def test_the_convolutions_of_a_step_are_all_of_them(made):
    """Their MACs and the classifier's are the network's."""
    net = build(**made)
    found = convs.layers(net, torch.zeros(2, 1, 28, 28))
    assert [layer.first for layer in found] == [True] + [False] * (len(found) - 1)
    paid = sum(layer.conv.weight.numel() * layer.conv(layer.x).shape[2:].numel() for layer in found)
    assert paid + net.classifier.weight.numel() == macs(net, (1, 28, 28))
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("layout", convs.LAYOUTS)
def test_a_bare_convolution_is_forward_and_both_gradients(groups, layout):
    """Counted by torch: three times the MACs of one pass, two for the first layer, for each replicate."""
    from reducenet.learn.measure import Count

    first, second, *_ = convs.layers(build(**STUDENT), torch.zeros(2, 1, 28, 28))
    for layer, passes in ((first, 2), (second, 3)):
        once = convs.bare(layer, layout, groups)
        with Count() as count:
            once()
        assert count.macs == passes * groups * layer.conv.weight.numel() * layer.conv(layer.x)[:, 0].numel()


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_the_images_normalised_and_flipped_or_not(channels):
    data = load_data("synthetic")
    if channels == 3:
        data = gpu.cifar_shaped(32)
    data = dataclasses.replace(data, pad=0)
    pictures, flipped = usual.Pictures(data), 0
    assert len(pictures) == len(data.train.labels)
    for index in range(20):
        image, label = pictures[index]
        wanted = data.normalise(data.train.images[index : index + 1])[0]
        if not torch.allclose(image, wanted, atol=1e-5):
            assert torch.allclose(image, wanted.flip(2), atol=1e-5)
            flipped += 1
        assert label == data.train.labels[index]
    assert 0 < flipped < 20


def test_the_usual_recipe_trains():
    """An epoch lowers the loss on what it saw, and sees every image once."""
    data = load_data("synthetic").subset(300)
    net, seen = build("plain", width=8, stem_stride=2, **usual.shape(data)), []
    net.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    before = torch.nn.functional.cross_entropy(net(data.normalise(data.train.images)), data.train.labels)
    seen.clear()
    batches = usual.loader(data, 0)
    assert all(usual.epoch(net, batches) > 0 for _ in range(3))
    assert seen == [128, 128, 44] * 3
    assert torch.nn.functional.cross_entropy(net(data.normalise(data.train.images)), data.train.labels) < before


def measured(seconds, train, epochs, *sentence):
    return {"kind": "measured", "cost": {"seconds": seconds, "train_seconds": train, "epochs": epochs}, "sentence": list(sentence)}


def test_a_study_is_counted_arm_by_arm_with_its_own_teacher():
    scaler, plain = {"build": {"block": "scaler"}}, {"build": {"block": "plain"}}
    fit, bought = {"fit": {"epochs": 3}}, {"fit": {"epochs": None}}
    found = [
        {"kind": "trained", "cost": {"train_seconds": 9.0, "epochs": 3}},
        {"kind": "trained", "cost": {"train_seconds": 2.5, "epochs": 3}},
        measured(10.0, 9.0, 3, scaler, fit),  # teacher 3
        measured(0.5, 0.0, 0, scaler, fit, {"drop_branch": {}}),  # teacher 3
        measured(4.0, 2.5, 3, scaler, fit, {"drop_branch": {}}, fit),  # teacher 3, student 3
        measured(4.0, 2.5, 11, plain, bought),  # student 11
        {"kind": "timed", "cost": {"seconds": 7.0}},
    ]
    assert images_alone(found, 100) == {"teacher": 900, "student": 1400}
    assert training_seconds(found) == 11.5
    assert beside_seconds(found) == 1.0 + 0.5 + 1.5 + 1.5


def test_a_gpu_is_asked_for_hours_and_seeds(monkeypatch):
    """From made-up rates: a student of 1000 images a second and a teacher of 500 take 200 * 50,000 images each."""
    rates = {"plain": 1000.0, "scaler": 500.0}
    monkeypatch.setattr(gpu, "fitted", lambda made, data, device: lambda: rates[made["block"]])
    monkeypatch.setattr(gpu, "usual", lambda made, data, device: (lambda: rates[made["block"]] / 4, "usual"))
    monkeypatch.setattr(gpu, "grouped", lambda made, data, count, device: lambda: rates[made["block"]] * count)
    student, teacher, whole = gpu.gpu_training(QUICK)
    assert (student.ours, student.reference, teacher.ours, teacher.ratio) == (1000.0, 250.0, 500.0, 4.0)
    hours = 200 * 50_000 / 1000 / 3600 + 200 * 50_000 / 500 / 3600
    assert whole.ours == pytest.approx(hours, rel=1e-3)
    assert whole.ratio == 0.25
    groups = gpu.gpu_groups(QUICK)
    assert [made.ratio for made in groups] == [2.0, 4.0, 8.0, 16.0]
    assert groups[0].reference == pytest.approx(1 / hours, rel=1e-3)


# ---- every figure, small


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_runs(name):
    figure = FIGURES[name]
    tiny = QUICK._replace(rounds=1, images=8) if figure.when == "gpu" else QUICK
    made = figure.measure(tiny, "cpu") if figure.when == "gpu" else figure.measure(tiny)
    assert made
    for one in made:
        assert one.ours > 0
        assert one.reference > 0
        assert one.runs == (1 if name == "study" else tiny.rounds)
        assert one.ours_is
        assert one.reference_is
        assert one.met is not False or one.holds_back
        assert not one.agrees or (ROOT / one.agrees.split(": ")[1]).is_file()
    assert len({one.figure for one in made}) == len(made)
