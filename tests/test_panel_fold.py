"""Page 04's panel: what it is handed against torch, and in a real Chromium the fold, the ranks and the soft labels against torch again."""

import json

import numpy as np
import pytest
import torch
from live_page import SIZES, chromium, drag, in_browser, says, visit

from reducenet import attach, build, drop_branch, freeze, load_data
from reducenet.course import nets
from reducenet.course.panels.fold import material as panel
from reducenet.course.panels.fold.bench import Bench
from reducenet.course.panels.fold.panel import live
from reducenet.data.tensors import Split
from reducenet.learn import evaluate
from reducenet.moves.side import fold

FIXTURES = (chromium, visit)


@pytest.fixture(scope="module")
def bench():
    return panel.shipped()


@pytest.fixture(scope="module")
def panel_file(bench, tmp_path_factory):
    out = tmp_path_factory.mktemp("fold") / "panel.html"
    out.write_text(live(bench.data, bench.teacher, bench.side, bench.control).html, encoding="utf-8")
    return out


@pytest.fixture(scope="module")
def some(bench):
    held = panel.picked(bench.held, 10)
    return Split(held.images[::9], held.labels[::9])


# --- what is handed over ---------------------------------------------------------------------------------------------------------------


def test_the_student_before_with_and_after_its_branch(bench, some):
    """At scale 0 it is the shipped teacher without branch1, at 1 the network as trained, and its change added is its fold."""
    logits = lambda net: evaluate.logits(net, bench.data, some)  # noqa: E731
    torch.testing.assert_close(logits(bench.opened(0.0)), logits(drop_branch(bench.teacher)), rtol=0, atol=1e-5)
    torch.testing.assert_close(logits(bench.opened()), logits(bench.side), rtol=0, atol=1e-4)
    torch.testing.assert_close(logits(bench.changed(bench.changes)), logits(fold(bench.side)), rtol=0, atol=1e-4)
    torch.testing.assert_close(logits(bench.changed(bench.control_changes)), logits(bench.control), rtol=0, atol=1e-4)
    assert (logits(bench.opened()) - logits(bench.opened(0.0))).abs().max() > 1


@pytest.mark.parametrize("rank", [1, 4, 12])
def test_a_cut_change_has_its_rank_and_is_the_nearest(bench, rank):
    """Singular values as numpy has them: those kept stay, the distance is what the others make."""
    cut, opened = bench.changed(bench.changes, rank), bench.opened(rank=rank)
    for name, change in bench.changes.items():
        start = bench.convs[name].parametrizations.weight.original
        found = (cut.get_submodule(name).weight - start).detach().double().flatten(1).numpy()
        values = np.linalg.svd(change.numpy(), compute_uv=False)
        np.testing.assert_allclose(np.linalg.svd(found, compute_uv=False)[:rank], values[:rank], atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(found - change.numpy()), np.linalg.norm(values[rank:]), atol=1e-5)
        dialled = opened.get_submodule(name)
        as_convs = torch.einsum("om,mikl->oikl", dialled.second.weight[..., 0, 0], dialled.first.weight)
        np.testing.assert_allclose(as_convs.detach().flatten(1).numpy(), found, atol=1e-5)


def test_the_record_speaks_of_the_shipped_networks(bench):
    counts = json.loads(panel.RECORD.read_text())[panel.digest(bench)]
    assert [len(counts["side"]), len(counts["side"][0]), len(counts["control"])] == [11, 11, 11]
    right = lambda net: int(evaluate.correct(net, bench.data, bench.held).sum())  # noqa: E731
    assert counts["side"][0] == [right(drop_branch(bench.teacher))] * 11  # of rank 0 nothing is let in
    assert counts["side"][-1][-1] == pytest.approx(right(bench.side), abs=1)
    assert counts["side"][4][-1] == pytest.approx(right(bench.changed(bench.changes, 4)), abs=1)
    assert counts["side"][-1][5] == pytest.approx(right(bench.opened(0.5)), abs=1)
    assert counts["control"][-1] == pytest.approx(right(bench.control), abs=1)


def test_networks_that_are_not_recorded_are_measured_along_the_ends():
    data = load_data("synthetic")
    teacher = build("scaler", width=4, depth=8, num_classes=len(data.classes), in_channels=data.val.images.shape[1]).eval()
    side = attach(freeze(drop_branch(teacher), "all"), expansion=2).eval()
    one = Bench(teacher, side, None, data, images=20)
    told = panel.material(one, rank=5, temperature=2.5)
    assert one.ranks == [0, 1, 2, 3, 4, 6, 8, 12, 16]
    assert (told["start"]["rank"], told["temperatures"][told["start"]["temperature"]]) == (4, 2.5)
    assert told["right"]["control"] == []
    assert told["right"]["side"][0][:10] == [None] * 10
    assert None not in told["right"]["side"][-1]
    assert [row[-1] for row in told["right"]["side"]] == [told["right"]["side"][-1][0]] * 9  # it learned nothing yet


def test_which_networks_are_shipped(bench):
    """The branch is that of the shipped teacher's own student, and the control has the same frozen rest."""
    student, side, control = (dict(net.named_parameters()) for net in (drop_branch(bench.teacher), bench.side, bench.control))
    for name, value in student.items():
        base = name.replace(".weight", ".parametrizations.weight.original") if "branch2.0" in name else name
        torch.testing.assert_close(side[base], value, rtol=0, atol=0)
        assert torch.equal(control[name], value) == ("branch2.0" not in name)
    assert all((nets.FOLDER / f"{name}.safetensors").stat().st_size < 200_000 for name in ("side", "side-conv"))


# --- in the browser --------------------------------------------------------------------------------------------------------------------

RUN = """({ at, some }) => {
    const all = [...images(given.held.pixels).keys()].filter((i) => i % 9 === 0).map((i) => normalised(picker.held[i]));
    return at.map(([step, rank]) => { Object.assign(state, { step, rank }); turn();
        return all.map((image) => (nets.now.show(image), [...nets.now.get("logits")])); });
}"""


@in_browser
def test_logits_are_torchs_at_every_step_and_rank(visit, bench, some):
    """Let in, trained, half folded, folded; whole and cut: to 1e-4."""
    at = [(step, rank) for step in (0, 4, 10, 15, 20) for rank in (0, 2, 4, 10)]
    found = visit().evaluate(RUN, {"at": at})
    for (step, rank), rows in zip(at, found, strict=True):
        expected = evaluate.logits(bench.opened(min(step / 10, 1), bench.ranks[rank]), bench.data, some).numpy()
        assert np.abs(np.array(rows) - expected).max() < 1e-4, (step, rank)
        if step == 20:
            folded = evaluate.logits(bench.changed(bench.changes, bench.ranks[rank]), bench.data, some).numpy()
            assert np.abs(np.array(rows) - folded).max() < 1e-4, rank


def probabilities(view):
    """[classes, (teacher, alone, now)] as the bars are long."""
    bars = view.evaluate("[...document.querySelectorAll('.three i')].map((node) => Number(node.style.transform.slice(7, -1)))")
    return np.array(bars).reshape(-1, 3)


@in_browser
def test_folding_moves_no_answer_and_taking_away_does(visit):
    view = visit()
    assert says(view, "moved") == "This is what folding has to keep."
    sums = """() => {
        const copy = new OffscreenCanvas(72, 8).getContext("2d", { willReadFrequently: true });
        copy.drawImage(document.getElementById("sum"), 0, 0);
        return [...copy.getImageData(0, 0, 72, 8).data];
    }"""
    start, costs, trained = probabilities(view), says(view, "macs"), view.evaluate(sums)
    view.locator("#step").focus()
    for _ in range(10):
        view.keyboard.press("ArrowRight")
        assert "No logit moved by more than" in says(view, "moved")
        assert np.abs(probabilities(view) - start).max() < 1e-5
    gap = view.evaluate("Math.max(...[...nets.now.get('logits')].map((v, i) => Math.abs(v - nets.open.get('logits')[i])))")
    assert 0 < gap < 1e-4  # another way to the same numbers
    assert view.evaluate("[document.body.dataset.branch, document.body.dataset.still]") == ["none", "yes"]
    assert (costs, says(view, "macs"), says(view, "parameters")) == ("1,214,304", "645,216", "19,810")
    assert not view.evaluate("[...nets.now.ops.keys()].some((i) => nets.now.ops[i].op === 'scale' && nets.now.values[i].some(Boolean))")
    folded = view.evaluate(sums)
    assert np.abs(np.array(trained) - folded).max() <= 1  # what x meets stands still
    view.keyboard.press("Home")
    assert "The logits are up to" in says(view, "moved")
    assert np.abs(probabilities(view) - start).max() > 0.05
    assert np.abs(np.array(view.evaluate(sums)) - folded).max() > 20
    assert says(view, "share") == "16.4 %"
    view.wait_for_function("() => document.getElementById('live').textContent.startsWith('Student alone, rank 32. The logits are')")


@in_browser
def test_soft_labels_are_torchs(visit, bench):
    view = visit()
    held, index = panel.picked(bench.held, 10), view.evaluate("picker.image")
    one = Split(held.images[index : index + 1], held.labels[index : index + 1])
    logits = [evaluate.logits(net, bench.data, one)[0] for net in (bench.teacher, bench.opened(0.0), bench.side)]
    view.locator("#temperature").focus()
    for key, temperature in (("Home", 1.0), ("End", 20.0)):
        view.keyboard.press(key)
        assert says(view, "temperature") == f"{temperature:g}"
        expected = torch.stack([torch.softmax(z / temperature, 0) for z in logits], 1).numpy()
        np.testing.assert_allclose(probabilities(view), expected, atol=1e-5)
        p, alone, now = (torch.log_softmax(z.double() / temperature, 0) for z in logits)
        for name, q in (("klAlone", alone), ("klNow", now)):
            kl = temperature**2 * (p.exp() * (p - q)).sum().item()
            assert float(says(view, name)) == pytest.approx(kl, abs=0.006)
    assert says(view, "answer") == bench.data.classes[int(logits[2].argmax())]


@in_browser
def test_the_rank_cuts_all_changes(visit, bench):
    view = visit()
    view.locator("#rank").focus()
    view.keyboard.press("Home")
    assert (says(view, "rank"), says(view, "share")) == ("0", "16.4 %")
    assert view.locator("#spectrum .bar1.cut").count() == 8
    for _ in range(2):
        view.keyboard.press("ArrowRight")
    counts = panel.recorded(bench)["side"][2][-1]
    assert (says(view, "rank"), says(view, "share")) == ("2", f"{counts / 5:.1f} %")
    values = np.linalg.svd(bench.changes["stage3.0.branch2.0"].numpy(), compute_uv=False)
    view.locator("[name=block]:checked").focus()
    for _ in range(2):
        view.keyboard.press("ArrowRight")
    says(view, "rank")  # until it is drawn
    assert (view.locator("#spectrum .bar1").count(), view.locator("#spectrum .bar1.cut").count()) == (32, 30)
    share = round(100 * (values[:2] ** 2).sum() / (values**2).sum())
    assert f"hold {share} % of the branch's change" in view.locator("#energy").inner_text()
    view.locator("#rank").focus()
    view.keyboard.press("End")
    assert (says(view, "rank"), view.locator("#spectrum .bar1.cut").count()) == ("32", 0)


@in_browser
@pytest.mark.parametrize("finger", [False, True])
@pytest.mark.parametrize("what", ["step", "rank", "temperature", "ranks"])
def test_sliders_and_the_point_can_be_dragged_to_both_ends(visit, finger, what):
    view = visit("phone" if finger else "desk")
    node = view.locator(f"#{what}")
    node.scroll_into_view_if_needed()
    says(view, "rank")
    box = node.bounding_box()
    left, right = (44, 20) if what == "ranks" else (14, 14)
    place = {0: box["x"] + left, 1: box["x"] + box["width"] - right}
    height, slider = box["y"] + box["height"] / 2, view.locator("#rank" if what == "ranks" else f"#{what}")
    for end in (0, 1):
        drag(view, (place[1 - end], height), (place[end], height + 2), finger)
        says(view, "rank")
        assert float(slider.input_value()) == end * float(slider.get_attribute("max"))


@in_browser
def test_every_control_is_large_enough_reached_with_tab_and_has_a_name(visit):
    view, seen = visit(), []
    for _ in range(12):
        view.keyboard.press("Tab")
        seen.append(view.evaluate("document.activeElement.id || document.activeElement.name"))
    assert seen[:8] == ["step", "pad", "another", "clear", "temperature", "class", "block", "rank"]
    small = view.evaluate(
        """() => [...document.querySelectorAll("button, input")].map((node) => {
            const box = node.getBoundingClientRect();
            const name = node.ariaLabel || node.labels?.[0]?.textContent.trim() || node.textContent.trim();
            return [node.id || node.name, box.width, box.height, name];
        }).filter(([, width, height, name]) => width < 44 || height < 44 || !name)"""
    )
    assert small == []


@in_browser
def test_it_folds_by_itself_until_a_hand_takes_over(visit):
    view = visit(still=False)
    view.wait_for_function("() => state.step > HALF", timeout=5000)
    view.wait_for_function("() => state.step === HALF", timeout=8000)
    view = visit(still=False)
    view.wait_for_function("() => state.step > HALF", timeout=5000)
    view.keyboard.press("Shift")
    stopped = view.evaluate("state.step")
    view.wait_for_timeout(600)
    assert view.evaluate("state.step") == stopped
    still = visit()
    still.wait_for_timeout(1500)
    assert still.evaluate("state.step === HALF")


@in_browser
def test_what_is_drawn_is_what_all_networks_see(visit, bench):
    view = visit()
    view.locator("#clear").click()
    box = view.locator("#pad").bounding_box()
    for i in range(6):
        y = box["y"] + (0.3 + 0.07 * i) * box["height"]
        drag(view, (box["x"] + 0.3 * box["width"], y), (box["x"] + 0.7 * box["width"], y), False)
    assert says(view, "verdict") == "you drew it"
    image = bench.data.normalise(torch.tensor(view.evaluate("[...picker.pad.pixels]"), dtype=torch.uint8).view(1, 1, 28, 28))
    with torch.no_grad():
        logits = [net(image)[0] for net in (bench.teacher, bench.opened(0.0), bench.side)]
    expected = torch.stack([torch.softmax(z / 4, 0) for z in logits], 1).numpy()
    np.testing.assert_allclose(probabilities(view), expected, atol=1e-5)


@in_browser
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_jumps_and_nothing_sticks_out(visit, size, scheme):
    view = visit(size, scheme)
    says(view, "rank")
    places = """() => [...document.querySelectorAll("main > *, main section > *, .falk > *, #soft li > *, .needed > div > *")]
        .map((node) => node.getBoundingClientRect()).map(({ x, y, width, height }) => [x, y, width, height].map(Math.round))"""
    before = view.evaluate(places)
    states = [dict(step=step) for step in (0, 3, 10, 13, 20)] + [
        dict(rank=0),
        dict(rank=5),
        dict(block=2),
        dict(block=1),
        dict(temperature=0),
    ]
    for part in states:
        view.evaluate("(part) => change(part)", part)
        says(view, "rank")
        assert [(a, b) for a, b in zip(before, view.evaluate(places), strict=True) if a[1::2] != b[1::2]] == [], part
    assert view.evaluate("document.documentElement.scrollWidth") == SIZES[size]["width"]
