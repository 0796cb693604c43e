"""Page 01's panel: what it is handed against torch, and in a real Chromium the networks, the pairs and the ring against torch again."""

import json
import re

import numpy as np
import pytest
import torch
from live_page import SIZES, chromium, drag, drawn, in_browser, says, shown, visit
from torch import nn

from reducenet import accuracy, build, fold_bn, fuse, load_data, macs, merge
from reducenet.course.live.reference import run_program
from reducenet.course.panels.slide import material as panel
from reducenet.course.panels.slide.bench import Bench, at_lam, first_pair
from reducenet.course.panels.slide.drawing import pair_and_one
from reducenet.course.panels.slide.panel import live
from reducenet.data.tensors import Split
from reducenet.learn import evaluate

FIXTURES = (chromium, visit)


@pytest.fixture(scope="module")
def bench():
    return panel.shipped()


@pytest.fixture(scope="module")
def given(bench):
    return panel.material(bench)


@pytest.fixture(scope="module")
def panel_file(bench, tmp_path_factory):
    out = tmp_path_factory.mktemp("slide") / "panel.html"
    out.write_text(live(bench.data, bench.nets["relu"], bench.nets["slide"]).html, encoding="utf-8")
    return out


@pytest.fixture(scope="module")
def held(bench):
    return panel.picked(bench.held, 10)


def reads(net, bench, images):
    """What the first pair reads of these images."""
    with torch.no_grad():
        return net.stem(bench.data.normalise(images))


def gaps(net, bench, images, lam, padding):
    """By torch, in float64: the pair, padded before its first or its second conv, less the merged conv; (inside, ring)."""
    conv3, bn3, _, conv1, bn1 = net.stage1[0].pair
    first, second, x = fold_bn(conv3, bn3).double(), fold_bn(conv1, bn1).double(), reads(net, bench, images).double()
    one = merge(first, second)
    if padding == "second":
        first.padding, second.padding = (0, 0), (1, 1)
    with torch.no_grad():
        inner = first(x)
        gap = (second(lam * inner + (1 - lam) * torch.relu(inner)) - one(x)).abs().amax((0, 1))
    inside = gap[1:-1, 1:-1].max().item()
    gap[1:-1, 1:-1] = 0
    return inside, gap.max().item()


# --- what is handed over ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["relu", "slide"])
def test_the_programs_are_the_networks_at_every_lam(bench, given, held, name):
    net, about = bench.nets[name], given["nets"][name]
    x = bench.data.normalise(held.images[:4]).numpy()
    for lam in (0.0, 0.35, 1.0):
        values = run_program(about["program"], x, dict.fromkeys(about["program"]["knobs"], lam))
        expected = evaluate.logits(at_lam(net, lam), bench.data, Split(held.images[:4], held.labels[:4]))
        np.testing.assert_allclose(values["logits"], expected, atol=1e-4)
        read = reads(net, bench, held.images[:4]).numpy()
        pair = run_program(about["convs"]["first"], read, dict.fromkeys(about["convs"]["first"]["knobs"], lam))
        np.testing.assert_allclose(pair["logits"], values[f"{about['pair']}.4"], atol=1e-4)
    np.testing.assert_allclose(pair["logits"], run_program(about["convs"]["one"], read)["logits"], atol=1e-4)


def test_padded_before_the_second_a_pair_differs_from_one_conv_on_the_ring_alone(bench, given, held):
    convs, x = given["nets"]["slide"]["convs"], reads(bench.nets["slide"], bench, held.images[:4]).numpy()
    gap = np.abs(run_program(convs["second"], x, {"1": 1.0})["logits"] - run_program(convs["one"], x)["logits"])
    assert gap[..., 1:-1, 1:-1].max() < 1e-5
    assert gap.max() > 0.5


def test_recorded_curves_are_what_torch_measures(bench, given):
    for name, net in bench.nets.items():
        curve = panel.record.read(panel.RECORD)[panel.digest(net, bench)]  # a KeyError: python -m reducenet.course.panels.slide.material
        assert curve == given["nets"][name]["curve"]
        assert len(curve) == panel.STEPS
        for step in (0, 6, 20):
            found = accuracy(at_lam(net, panel.LAMS[step]), bench.data, bench.held)
            assert curve[step] == pytest.approx(500 * found, abs=2), (name, step)  # images, on another processor


def test_each_network_works_where_its_training_ended(given):
    curves = {name: about["curve"] for name, about in given["nets"].items()}
    assert curves["relu"][0] > 2 * curves["relu"][-1]
    assert curves["slide"][-1] > 1.5 * curves["slide"][0]
    assert [about["home"] for about in given["nets"].values()] == [0.0, 1.0]


def test_a_digest_knows_weights_and_images_but_no_lam(bench):
    net = bench.nets["relu"]
    assert panel.digest(at_lam(net, 0.3), bench) == panel.digest(net, bench) != panel.digest(bench.nets["slide"], bench)
    assert panel.digest(net, Bench(bench.nets, bench.data, 100)) != panel.digest(net, bench)


def test_networks_that_nobody_recorded_are_measured():
    data = load_data("synthetic")
    nets = {name: build("lambda", width=4, expansion=2, num_classes=4, lam=lam).eval() for name, lam in (("relu", 0.0), ("slide", 1.0))}
    given = panel.material(Bench(nets, data, images=20), lam=0.5)
    assert given["start"]["step"] == 10
    assert given["nets"]["relu"]["channels"] == [4, 8, 4]
    assert given["nets"]["slide"]["curve"][20] == 20 * accuracy(nets["slide"], data, panel.picked(Bench(nets, data, 20).held, 4, each=20))
    json.dumps(given)


def test_costs_are_those_of_two_convs_and_of_one(bench, given):
    for name, net in bench.nets.items():
        costs = given["nets"][name]["costs"]
        assert (
            costs["one"][1]
            == macs(build("plain", depth=8, width=8, stem_stride=2), bench.shape)
            == macs(fuse(at_lam(net, 1.0)), bench.shape)
        )
        assert costs["two"][1] > 2 * costs["one"][1]


def test_the_first_pair_is_folded_and_its_name_is_in_the_program(bench, given):
    name, first, second = first_pair(bench.nets["slide"])
    x = reads(bench.nets["slide"], bench, bench.held.images[:2])
    with torch.no_grad():
        torch.testing.assert_close(second(first(x)), bench.nets["slide"].get_submodule(name)(x), rtol=0, atol=1e-4)
    assert given["nets"]["slide"]["pair"] == name == "stage1.0.pair"


def test_the_page_is_one_small_file_that_asks_for_nothing(panel_file):
    text = panel_file.read_text()
    assert len(text.encode()) <= 1e6
    assert not re.search(r"https?:|\ssrc=|@import|fetch\(|XMLHttpRequest|import\(", text.replace('href="data:,"', ""))
    assert text.count("</script>") == 2


def test_the_picture_says_what_the_curves_say(bench, given):
    said = live(bench.data, bench.nets["relu"], bench.nets["slide"]).alt
    ends = [round(curve[i] / 5) for curve in (given["nets"]["relu"]["curve"], given["nets"]["slide"]["curve"]) for i in (0, -1)]
    assert [int(number) for number in re.findall(r"(\d+) %", said)] == ends
    svg, alt = pair_and_one(4)
    assert "conv3 × 4" in svg
    assert "one conv3" in alt


# --- in the browser --------------------------------------------------------------------------------------------------------------------


@in_browser
def test_logits_are_torchs_for_both_networks(visit, bench, held):
    some, steps = Split(held.images[::9], held.labels[::9]), [0, 1, 8, 19, 20]
    for name, net in bench.nets.items():
        found = visit().evaluate(
            """({ name, steps }) => {
                const net = new Net(given.nets[name].program), some = picker.held.filter((_, i) => i % 9 === 0).map(normalised);
                return steps.map((step) => {
                    for (const knob of Object.keys(net.knobs)) net.turn(knob, step / last);
                    return some.map((image) => (net.show(image), [...net.get("logits")]));
                });
            }""",
            {"name": name, "steps": steps},
        )
        for row, step in zip(found, steps, strict=True):
            expected = evaluate.logits(at_lam(net, panel.LAMS[step]), bench.data, some).numpy()
            assert np.abs(np.array(row) - expected).max() < 1e-4, (name, step)


@in_browser
@pytest.mark.parametrize("size", SIZES)
def test_every_control_by_the_keyboard(visit, bench, given, held, size):
    view = visit(size)
    image = held.images[given["start"]["image"]][None]
    for name, key in (("relu", None), ("slide", "ArrowRight"), ("relu", "ArrowLeft")):
        if key:
            view.locator("[name=net]:checked").focus()
            view.keyboard.press(key)
        for end, step in (("End", 20), ("Home", 0)):
            view.locator("#lam").focus()
            view.keyboard.press(end)
            assert says(view, "share") == f"{given['nets'][name]['curve'][step] / 5:.1f} %"
            assert says(view, "kind") == {20: "identity", 0: "ReLU"}[step]
            expected = evaluate.logits(at_lam(bench.nets[name], step / 20), bench.data, Split(image, held.labels[:1]))[0].numpy()
            assert np.abs(shown(view) - expected).max() < 0.051
    view.keyboard.press("ArrowRight")
    assert says(view, "lam") == "0.05"
    view.locator("#another").focus()
    view.keyboard.press("Enter")
    assert drawn(view).evaluate("picker.image") != given["start"]["image"]
    view.locator("#clear").focus()
    view.keyboard.press("Space")
    assert says(view, "verdict") == "you drew it"
    view.locator("#pad").focus()
    for key in ("Space", "ArrowRight", "ArrowDown"):
        view.keyboard.press(key)
    assert drawn(view).evaluate("Math.max(...picker.pad.pixels)") == 255


@in_browser
@pytest.mark.parametrize("name", ["relu", "slide"])
def test_two_less_one_is_what_torch_says_inside_and_on_the_ring(visit, bench, given, held, name):
    view, image = visit(), held.images[given["start"]["image"]][None]
    view.evaluate(f"change({{ net: '{name}' }})")
    for padding, step in (("first", 0), ("first", 9), ("first", 20), ("second", 20), ("second", 0)):
        view.locator(f"[name=padding][value={padding}]").check(force=True)
        view.evaluate(f"change({{ step: {step} }})")
        expected = gaps(bench.nets[name], bench, image, step / 20, padding)
        for where, value in zip(("inside", "ring"), expected, strict=True):
            text = says(view, where)
            assert text.startswith("0") if value < 1e-6 else float(text) == pytest.approx(value, abs=0.0051), (where, padding, step)
        assert says(view, "equals") == ("=" if max(expected) < 1e-6 else "≠")
        blur = float(view.evaluate("document.body.style.getPropertyValue('--blur')"))
        assert blur == pytest.approx(1 - step / 20, abs=1e-4)  # the error of merging too early is proportional to 1 - lam
    assert "merge refuses" in says(view, "reason")


@in_browser
@pytest.mark.parametrize("size", SIZES)
def test_the_point_follows_the_hand_to_both_ends(visit, size):
    view = visit(size)
    box = view.locator("#chart").bounding_box()
    left, right, middle = box["x"] + 44, box["x"] + box["width"] - 20, box["y"] + box["height"] / 2
    drag(view, (left, middle), (right + 5, middle + 3), size == "phone")
    assert says(view, "lam") == "1.00"
    drag(view, (right, middle), (left - 5, middle + 3), size == "phone")
    assert says(view, "lam") == "0.00"


@in_browser
def test_the_kernels_on_the_screen_are_the_networks(visit, bench):
    """Each tile is blue where the kernel is above 0 and orange where it is below; brightest where it is largest."""
    view = drawn(visit())
    _, first, second = first_pair(bench.nets["relu"])
    for name, kernel in (
        ("kernel-first", first.weight.transpose(0, 1)),
        ("kernel-second", second.weight),
        ("kernel-one", merge(first, second).weight),
    ):
        rows, columns, size, _ = kernel.shape
        found = view.evaluate(
            """(name) => {
                const { width, height } = document.getElementById(name), pen = document.getElementById(name).getContext("2d");
                return [width, height, ...pen.getImageData(0, 0, width, height).data];
            }""",
            name,
        )
        image = np.array(found[2:]).reshape(found[1], found[0], 4)
        assert image.shape[:2] == (rows * (size + 1) - 1, columns * (size + 1) - 1)
        step = size + 1
        for row, column in ((0, 0), (3, 5), (7, 7)):
            tile = image[row * step : row * step + size, column * step : column * step + size]
            share = (kernel[row, column].abs() / kernel.abs().max()).sqrt().detach().numpy()
            light = np.where((kernel[row, column] > 0).numpy()[..., None], [70, 165, 255], [255, 150, 60])
            np.testing.assert_allclose(tile[..., :3], 14 + share[..., None] * (light - 14), atol=1.01)


@in_browser
@pytest.mark.parametrize("size", SIZES)
def test_nothing_jumps_and_every_target_is_as_large_as_a_fingertip(visit, size):
    view = visit(size)
    heights = set()
    for net in ("relu", "slide"):
        for step in (0, 11, 20):
            for padding in ("first", "second"):
                view.evaluate(f"change({{ net: '{net}', step: {step}, padding: '{padding}' }})")
                heights.add(drawn(view).evaluate("document.documentElement.scrollHeight"))
    assert len(heights) == 1
    assert view.evaluate("document.documentElement.scrollWidth") == SIZES[size]["width"]
    for target in view.locator("button, .choices span, input[type=range]").all():
        box = target.bounding_box()
        assert min(box["width"], box["height"]) >= 44, target.evaluate("(node) => node.outerHTML")


@in_browser
def test_it_moves_by_itself_until_a_hand_takes_over_and_says_where_it_rests(visit):
    view = visit(still=False)
    view.wait_for_function("() => state.step > 0", timeout=5000)
    view.locator("#lam").focus()
    view.keyboard.press("Home")
    view.wait_for_timeout(1200)
    assert says(view, "lam") == "0.00"
    assert "lam 0.00, ReLU. The network trained with ReLU says" in view.locator("#live").inner_text()
    still = visit()
    still.wait_for_timeout(1200)
    assert says(still, "lam") == "0.00"


@in_browser
def test_a_net_of_the_readers_own_can_be_shown(visit, tmp_path):
    nets = [build("lambda", width=4, expansion=2, num_classes=4, lam=lam).eval() for lam in (0.0, 1.0)]
    path = tmp_path / "own.html"
    path.write_text(live(load_data("synthetic"), *nets, lam=1.0, images=100).html)
    view = visit(path=path)
    assert says(view, "lam") == "1.00"
    assert isinstance(nets[0].stage1[0].pair, nn.Sequential)
