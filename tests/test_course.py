"""What pages stand on: shipped networks, parameters, predictions, figures, evidence."""

import base64
import re
from types import SimpleNamespace

import pytest
import torch
from studies import ROOT
from torch import nn

from reducenet import accuracy, drop_branch, load_data
from reducenet.course import evidence, nets, opening
from reducenet.course.evidence import Evidence, claims, records
from reducenet.course.figures import Beside, Drawn
from reducenet.course.opening import open_page
from reducenet.course.panels.fade.drawing import scaler_block
from reducenet.course.parameters import ParameterError, check, injected
from reducenet.course.prediction import between, predict
from reducenet.nets.blocks import ScalerBlock
from reducenet.play.checkpoint import CheckpointError, digest
from reducenet.study.report.statistics import Reading
from reducenet.style import DUSK
from reducenet.words import MoveError


@pytest.fixture(scope="module")
def data():
    return load_data("fashion-mini")


# ---- shipped networks


@pytest.mark.parametrize("name", nets.ARMS)
def test_shipped_networks_are_those_of_the_recorded_study(name, data):
    study, arm = nets.ARMS[name]
    rows, net = Evidence(study).report.rows, nets.shipped(name)
    (recorded,) = rows[(rows.arm == arm) & (rows.seed == 0)].val_accuracy
    assert accuracy(net, data, data.val) == pytest.approx(recorded, abs=5e-4)  # one image, on another processor
    assert not net.training


def test_all_that_is_shipped_is_listed_and_small():
    files = {file.stem: file.stat().st_size for file in nets.FOLDER.glob("*.safetensors")}
    assert set(files) == set(nets.ARMS)
    assert sum(files.values()) <= 3e6


def test_what_is_not_shipped_or_damaged_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no network 'teacher-e3' is shipped; there are teacher-e1, teacher-e2"):
        nets.shipped("teacher-e3")
    monkeypatch.setattr(nets, "FOLDER", tmp_path)
    (tmp_path / "teacher-e4.safetensors").write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match=r"teacher-e4.safetensors: not a readable checkpoint"):
        nets.shipped("teacher-e4")


def test_an_arm_is_trained_here_as_its_sentence_says():
    study, data = Evidence("quick").study, load_data("synthetic").subset(64)
    how = dict(seed=3, epochs=2, build={"width": 4}, device="cpu")
    made = nets.trained(study, "drop-kd", data, **how)
    assert [next(iter(move)) for move in made.sentence] == ["build", "fit", "drop_branch", "fit"]
    assert made.sentence[0]["build"]["width"] == 4
    assert made.sentence[1]["fit"]["epochs"] == made.sentence[3]["fit"]["epochs"] == len(made.rows) == 2
    assert not made.net.training
    again, other = nets.trained(study, "drop-kd", data, **how).net, nets.trained(study, "drop-kd", data, **how | {"seed": 4}).net
    assert digest(again) == digest(made.net) != digest(other)
    taught = nets.trained(study, "drop-ce", data, **how).net
    assert digest(taught) != digest(made.net)
    with pytest.raises(MoveError, match="plain-long: its epochs follow from another arm's cost"):
        nets.trained(study, "plain-long", data, **how)


# ---- parameters


def test_parameters_keep_their_rules():
    check({"seed": 1, "scaler": 0.5, "retrain": True})
    check({"scaler": 1})  # a whole number is a number
    for given, message in (
        ({"seed": True}, "parameter seed = True must be a whole number"),
        ({"seed": 1.5}, r"parameter seed = 1.5 must be a whole number"),
        ({"seed": "zero"}, "parameter seed = 'zero' must be a whole number"),
        ({"scaler": "half"}, "parameter scaler = 'half' must be a number"),
        ({"scaler": 2}, r"parameter scaler = 2 must lie between 0.0 and 1.0"),
        ({"scaler": float("nan")}, r"parameter scaler = nan must lie between 0.0 and 1.0"),
        ({"expansion": 3}, "parameter expansion = 3 must be one of 1, 2, 4, 8"),
        ({"profile": "fast"}, "parameter profile = 'fast' must be one of smoke, quick, full"),
        ({"retrain": 1}, "parameter retrain = 1 must be True or False"),
    ):
        with pytest.raises(ParameterError, match=f"^{message}$"):
            check(given)


def test_only_what_papermill_put_there_can_be_unknown(monkeypatch):
    with pytest.raises(ParameterError, match="^unknown parameter 'sede'; known: seed, width$"):
        check({"seed": 0, "width": 8}, {"sede", "seed"})
    cells = ["", "my_startup = 1", "seed: int = 0", "# Parameters\nseed = 3\nsede = -4\n", "page = open_page(...)"]
    shell = SimpleNamespace(user_ns={"In": cells, "my_startup": 1, "other": 2})
    monkeypatch.setitem(__import__("sys").modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert injected() == {"seed", "sede"}
    shell.user_ns["In"] = cells[:3]
    assert injected() == set()
    monkeypatch.setitem(__import__("sys").modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert injected() == set()


@pytest.fixture
def opened(monkeypatch):
    """`open_page` in a process that keeps its threads and its theme."""
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(opening, "theme", lambda: None)
    return open_page


def test_a_page_is_as_its_parameters_say(opened):
    page = opened("quick", seed=2, width=4, epochs=2, dataset="synthetic", profile="full", expansion=2)
    assert (page.epochs, page.shape, page.classes) == (6, (1, 12, 12), 4)
    assert page.size == dict(depth=8, width=4, stem_stride=2, num_classes=4, in_channels=1, seed=2)
    assert page.training == dict(lr=0.4, epochs=6, seed=2, device=page.device, progress=True)
    smoke = opened("quick", dataset="synthetic", profile="smoke", epochs=9)
    assert smoke.epochs == 1
    assert opened("quick", dataset="fashion-mini", profile="smoke").data.train.images.shape[0] == 512
    assert opened("quick").data.train.images.shape[0] == 10_000
    assert "1 epochs" not in repr(smoke)
    with pytest.raises(ParameterError):
        opened("quick", width=2)


def test_the_shipped_network_is_shown_where_nothing_else_is_asked_for(opened):
    page = opened("quick", seed=0, width=8, epochs=3, dataset="fashion-mini", profile="quick", retrain=False, scaler=1.0, expansion=8)
    assert page.as_shipped
    assert page.as_recorded
    assert digest(page.network("teacher-e8", scaler=1.0)) == digest(nets.shipped("teacher-e8"))
    for other in (dict(seed=1), dict(width=4), dict(epochs=2), dict(retrain=True), dict(scaler=0.5), dict(profile="smoke")):
        assert not opened("quick", **other).as_shipped, other
    assert opened("quick", seed=1).as_recorded  # one more seed of the study
    assert not opened("quick", dataset="synthetic").as_recorded


def test_another_network_is_trained_once(opened):
    page = opened("quick", dataset="synthetic", profile="smoke", width=4, scaler=0.5)
    net = page.network("teacher-e2", scaler=0.5)
    assert [block.scaler for block in net.modules() if isinstance(block, ScalerBlock)] == [0.5] * 3
    assert net.stage1[0].branch1[0].out_channels == 2 * 4
    assert page.network("teacher-e2", scaler=0.5) is net
    assert page.network("teacher-e2", scaler=0.25) is not net
    assert len(page.trained("teacher-e2", scaler=0.5).rows) == 1


# ---- predictions


def test_a_prediction_holds_its_answer_folded():
    shown = predict("Up or <down>?", ["up", "down & out", "stay"], right=1, measured="it went <b>down</b>")
    html, plain = (shown._repr_mimebundle_()[kind] for kind in ("text/html", "text/plain"))
    assert "Up or &lt;down&gt;?" in html
    folded = re.findall(r'<details name="([^"]+)"><summary>(.*?)</summary><p>(.*?)</p></details>', html)
    assert [option for _, option, _ in folded] == ["up", "down &amp; out", "stay"]
    assert len({name for name, _, _ in folded}) == 1
    assert [text.startswith("✓ You said it.") for _, _, text in folded] == [False, True, False]
    assert all("it went <b>down</b>" in text for _, _, text in folded)
    assert "down &amp; out" in folded[0][2]
    assert "went" not in re.sub(r"<details.*?</details>", "", html)
    assert "went" not in plain
    assert "<details open" not in html
    with pytest.raises(ValueError, match="option 2 of 2 cannot be the right one"):
        predict("?", ["a", "b"], 2, "")


def test_two_predictions_do_not_close_each_other():
    names = [re.search(r'name="([^"]+)"', predict(q, ["a"], 0, "")._repr_mimebundle_()["text/html"])[1] for q in ("one?", "two?")]
    assert names[0] != names[1]


def test_which_option_a_value_is():
    assert [between(value, 1, 5, 9) for value in (0.9, 1, 4.9, 5, 9, 100)] == [0, 1, 1, 2, 3, 3]


# ---- figures


def test_a_figure_is_an_image_with_words_that_goes_dark():
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot([0, 1], color=list(DUSK)[10])
    bundle = Drawn(figure, 'a "line" up', "caption <b>")._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    (source,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', bundle["text/html"])
    svg = base64.b64decode(source).decode()
    assert svg.startswith("<svg")
    assert "@media (prefers-color-scheme:dark)" in svg
    assert 'alt="a &quot;line&quot; up"' in bundle["text/html"]
    assert "<svg" not in bundle["text/html"]  # hosts strip it


def test_a_drawing_stands_beside_its_equation():
    svg, alt = scaler_block(0.5, 4)
    bundle = Beside(svg, alt, "a < b")._repr_mimebundle_()
    assert "$$ a &lt; b $$" in bundle["text/html"]
    assert f'alt="{alt}"' in bundle["text/html"]


def test_the_branch_fades():
    opacity = [re.search(r'<g opacity="([\d.]+)"', scaler_block(s, 4)[0])[1] for s in (0.0, 0.5, 1.0)]
    assert [float(o) for o in opacity] == [0.1, 0.55, 1.0]
    assert "expansion 4, gone: this is the student" in scaler_block(0.0, 4)[1]


# ---- evidence


def test_evidence_is_the_studys_own_reading_and_that_of_the_register_where_it_is_a_claims():
    quick, study = Evidence("quick"), Evidence("classifier")
    assert quick.contrast("drop-ce", "plain-long") == quick.report.contrast("drop-ce", "plain-long")
    claimed = claims()["H5"].contrasts[0]
    assert study.contrast("frozen", "plain-long") == claimed
    own = records().of(claims()["H5"].claim).contrast("frozen", "plain-long")
    assert study.behind("frozen", "plain-long") is records().of(claims()["H5"].claim)
    assert study.behind("frozen", "plain") is study.report  # of no claim
    assert (claimed.mean, claimed.n, claimed.low, claimed.high) == (own.mean, own.n, own.low, own.high)
    assert claimed.p > own.p  # a larger family
    gap = (quick.report.values["drop-fc"] - quick.report.values["plain-long"]).mean()
    assert f"{gap:+.2f}".replace("-", "−") in quick.say(("drop-fc", "plain-long")).data
    with pytest.raises(KeyError, match="study quick does not compare 'drop' with 'teacher'"):
        quick.contrast("drop", "teacher")
    assert quick.mean("plain") == f"{quick.report.values['plain'].mean():.1f} %"


@pytest.mark.parametrize(
    ("n", "reading", "said"),
    [
        (8, Reading.HIGHER, "**Yes:** a is above b: +1.00 [+0.50, +1.50] points (n = 8)."),
        (8, Reading.LOWER, "**No:** a is below b: +1.00 [+0.50, +1.50] points (n = 8)."),
        (9, Reading.EQUIVALENT, "**No:** a is equivalent within ±0.5 to b: +1.00 [+0.50, +1.50] points (n = 9)."),
        (
            8,
            Reading.UNDECIDED,
            "**Undecided:** a is neither above nor below b for sure: +1.00 [+0.50, +1.50] points (n = 8; "
            "2.3 would have been found with 80 % power).",
        ),
        (5, Reading.HIGHER, "**Not decided yet:** 5 of 8 paired seeds. So far a is above b: +1.00 [+0.50, +1.50] points."),
        (2, Reading.NO_RESULT, "**Not decided yet:** a against b, 2 of 8 paired seeds. So far +1.00 points."),
        (0, Reading.NO_RESULT, "**Not decided yet:** a against b, 0 of 8 paired seeds."),
    ],
)
def test_a_verdict_says_yes_no_or_not_decided(monkeypatch, n, reading, said):
    contrast = SimpleNamespace(n=n, reading=reading, mean=1.0, low=0.5, high=1.5, detectable=2.345)
    of = Evidence("quick")
    of.__dict__ |= {"study": SimpleNamespace(label=str), "report": SimpleNamespace(margin=0.5)}
    monkeypatch.setattr(Evidence, "contrast", lambda self, arm, against: contrast)
    assert of.verdict("a", "b") == said


def test_without_rows_it_is_not_decided_yet(monkeypatch, tmp_path):
    (tmp_path / "ablations").mkdir()
    (tmp_path / "reports").mkdir()
    (tmp_path / "ablations" / "quick.toml").write_text((ROOT / "ablations" / "quick.toml").read_text())
    monkeypatch.setattr(evidence, "project", lambda: tmp_path)
    quick = Evidence("quick")
    assert quick.report is None
    assert quick.verdict("drop-fc", "plain-long").startswith(
        "**Not decided yet:** drop + frozen classifier against plain student at the cost"
    )
    assert "has no rows" in quick.figure("drop-fc").caption
    assert quick.mean("plain") == "not measured yet"


def test_the_figure_draws_every_seed_and_this_pages_own_run():
    quick = Evidence("quick")
    drawn, with_live = quick.figure("drop-fc", "teacher"), quick.figure("drop-fc", "teacher", live={"drop-fc": 83.0, "plain": 80.0})
    assert "Ring: this page's own run" in with_live.caption
    assert "Ring" not in drawn.caption
    assert with_live.svg != drawn.svg
    assert quick.figure("drop-fc", "teacher", live={"drop-fc": 83.0}).caption == drawn.caption  # a pair needs both
    assert f"n = {len(quick.report.values)} paired seeds" in drawn.caption
    assert f"all {len(quick.report.contrasts)} comparisons" in drawn.caption
    assert "drop + frozen classifier minus plain student +" in drawn.alt
    assert "higher" in drawn.alt


# ---- what a page derives is what the package does


def test_the_block_that_page_03_derives_is_the_packages(images):
    """The cells as they stand on the page: same names, so that weights fit, and the same function, with and without the branch."""
    cells = (ROOT / "notebooks" / "src" / "03_scaler_branch.py").read_text().split("# %%")
    names = {}
    for start in ("def conv_bn_relu", "class MyBlock"):
        (cell,) = [cell for cell in cells if start in cell]
        exec(re.sub(r"^ tags=.*\n", "", cell), names)
    for inside, stride in ((4, 2), (8, 1)):
        theirs, x = ScalerBlock(inside, 8, stride=stride, expansion=3, scaler=0.7).double(), images(inside, 9)
        mine = names["MyBlock"](inside, 8, stride=stride, expansion=3, scaler=0.7).double()
        mine.load_state_dict(theirs.state_dict())
        torch.testing.assert_close(mine(x), theirs(x), rtol=0, atol=1e-12)
        mine.scaler = 0.0
        student = drop_branch(nn.Sequential(theirs.eval()))
        torch.testing.assert_close(mine.eval()(x), student(x), rtol=0, atol=1e-12)
