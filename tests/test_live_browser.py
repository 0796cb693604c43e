"""The live panel in a real Chromium: net.js against torch, statistics measured anew, the frame in a page, and how fast it is."""

import json
import re
import statistics

import numpy as np
import pytest
import torch
from live_page import FIXTURES, says, shown
from networks import small
from test_browser import CHROMIUM
from torch import nn

from reducenet import fuse, set_scaler
from reducenet.course.live.program import program
from reducenet.course.panels.fade import material as panel
from reducenet.course.panels.fade.panel import live
from reducenet.data.tensors import Split
from reducenet.learn import evaluate
from reducenet.methods.vanillanet import vanillanet

shipped_bench, panel_file, chromium, visit = FIXTURES
pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium or Chrome: `apt install chromium`, or put one on the PATH"),
]


def test_logits_are_torchs_for_every_shipped_net(visit, shipped_bench):
    """Every net, as trained and measured anew, five scalers, ten images: to 1e-4."""
    view = visit()
    held = panel.picked(shipped_bench.held, 10)
    some = Split(held.images[::6], held.labels[::6])
    steps = [0, 1, 7, 13, 20]
    for expansion, teacher in shipped_bench.teachers.items():
        found = view.evaluate(
            """({ expansion, steps, at }) => {
                const net = new Net(given.nets[expansion].program), some = held.filter((_, i) => i % 6 === 0).map(normalised);
                const turn = (step) => Object.keys(net.knobs).forEach((knob) => net.turn(knob, step / last));
                const all = () => steps.map((step) => (turn(step), some.map((image) => (net.show(image), [...net.get("logits")]))));
                const trained = all();
                turn(at);
                for (const share of net.measure(images(given.batch.pixels).map(normalised)));
                const measured = all();
                net.restore();
                return { trained, measured, restored: all() };
            }""",
            {"expansion": str(expansion), "steps": steps, "at": 7},
        )
        anew = panel.anew(teacher, shipped_bench.data, panel.SCALERS[7])
        for name, net in (("trained", teacher), ("measured", anew), ("restored", teacher)):
            for row, step in zip(found[name], steps, strict=True):
                expected = evaluate.logits(set_scaler(net, panel.SCALERS[step]), shipped_bench.data, some).numpy()
                assert np.abs(np.array(row) - expected).max() < 1e-4, (expansion, name, step)


LAYERS = nn.Sequential(
    nn.Conv2d(1, 6, (3, 2), (2, 1), (1, 0)), nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.Conv2d(6, 9, 3, groups=3), nn.ReLU(), nn.Flatten(),
    nn.LazyLinear(5))  # fmt: skip


@pytest.mark.parametrize("name", ["plain", "lambda", "inverted", "repvgg", "published", "vanillanet", "layers"])
def test_net_js_runs_what_it_was_not_written_for(visit, randomised, name):
    LAYERS(torch.zeros(1, 1, 13, 11))
    net = {"vanillanet": lambda: vanillanet(width=4, lam=0.3), "layers": lambda: LAYERS}.get(name, lambda: small(name, depth=14))()
    net = randomised(net)
    net = fuse(net, strict=False) if name != "layers" else net
    x = torch.randn(2, 1, 13, 11)
    found = visit().evaluate(
        """({ program, images }) => {
            const net = new Net(program);
            return images.map((image) => (net.show(image), [...net.get("logits")]));
        }""",
        {"program": program(net, (1, 13, 11)), "images": x.flatten(1).tolist()},
    )
    with torch.no_grad():
        expected = net.double()(x.double()).numpy()
    assert np.abs(np.array(found) - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_knob_makes_stale_what_depends_on_it_and_nothing_else(visit):
    ran = visit().evaluate(
        """() => {
            const net = new Net(given.nets[4].program), ran = [];
            for (const knob of Object.keys(net.knobs)) net.turn(knob, 0);
            const run = net.run.bind(net);
            net.run = (op, ...rest) => { ran.push(net.ops.indexOf(op)); run(op, ...rest); };
            const asked = (change) => { ran.length = 0; change(); net.get("logits"); return ran.length; };
            const all = net.ops.length;
            const student = asked(() => net.show(normalised(held[0]))), again = asked(() => {});
            return { all, student, again, third: asked(() => net.turn("stage3.0.branch1.5", 0.5)) };
        }"""
    )
    branches = 3 * 6 + 3  # of a dropped branch nothing is run: two convs, two BNs, two ReLUs, and the factor
    assert (ran["student"], ran["again"]) == (ran["all"] - 1 - branches, 0)
    assert ran["third"] == 7 + 7  # branch1 of block 3 for the first time; then add, conv3, bn3, add, post, mean, classifier
    with pytest.raises(Exception, match="no knob nonsense; there are: stage1"):
        visit().evaluate("() => new Net(given.nets[4].program).turn('nonsense', 1)")


def test_statistics_measured_anew_are_torchs_and_go_again(visit, shipped_bench):
    view = visit()
    view.locator("#scaler").focus()
    view.keyboard.press("Home")
    before = shown(view)
    view.locator("#measure").click()
    view.wait_for_function("() => document.body.dataset.statistics === 'measured'", timeout=30_000)
    curves = panel.recorded(shipped_bench.teachers[4], shipped_bench)["measured"]["0"]
    assert says(view, "share") == f"{curves[0] / 5:.1f} %"
    assert view.locator("#chart .traces").get_attribute("d").count("M") == 1
    index = view.evaluate("state.image")
    held = panel.picked(shipped_bench.held, 10)
    anew = panel.anew(shipped_bench.teachers[4], shipped_bench.data, 0.0)
    for key, scaler in (("Home", 0.0), ("End", 1.0)):
        view.locator("#scaler").focus()
        view.keyboard.press(key)
        with torch.no_grad():
            expected = set_scaler(anew, scaler)(shipped_bench.data.normalise(held.images[index : index + 1]))[0].numpy()
        assert np.abs(shown(view) - expected).max() < 0.051
        assert says(view, "share") == f"{curves[round(scaler * 20)] / 5:.1f} %"
    assert "Here the maps have others" in view.locator("#statistics").inner_text()
    view.locator("#restore").click()
    view.locator("#scaler").focus()
    view.keyboard.press("Home")
    np.testing.assert_array_equal(shown(view), before)


def test_a_change_ends_what_is_being_measured(visit):
    view = visit()
    view.evaluate("() => { document.getElementById('measure').click(); change({ step: 3 }); }")
    view.wait_for_timeout(1500)
    assert view.evaluate("[chosen().at, document.body.dataset.statistics]") == [None, "trained"]
    assert says(view, "share") == f"{100 * view.evaluate('given.nets[4].curves.trained[3]') / 500:.1f} %"


def test_a_curve_that_nobody_recorded_is_not_made_up(visit, shipped_bench, tmp_path):
    path = tmp_path / "one.html"
    path.write_text(live(shipped_bench.data, {2: set_scaler(shipped_bench.teachers[2], 0.5)}, scaler=0.5, images=50).html)
    view = visit(path=path)
    assert says(view, "kind") == "teacher"
    view.locator("#measure").click()
    view.wait_for_function("() => document.body.dataset.statistics === 'measured'", timeout=30_000)
    assert says(view, "share") == "not recorded"


def test_in_a_page_the_frame_is_as_high_as_the_panel_and_the_picture_goes(visit, shipped_bench, tmp_path):
    path = tmp_path / "host.html"
    shown_there = live(shipped_bench.data, shipped_bench.teachers)._repr_mimebundle_()["text/html"]
    path.write_text(f"<!doctype html><meta charset=utf-8><body>{shown_there}", encoding="utf-8")
    view = visit(path=path)
    frame = view.frame_locator("iframe")
    frame.locator("#scaler").focus()
    view.keyboard.press("Home")
    frame.get_by_text("16.4 %").wait_for()
    assert not view.locator("img").is_visible()
    inside = frame.locator("html").evaluate("(node) => node.offsetHeight")
    assert view.locator("iframe").bounding_box()["height"] == inside
    stripped = tmp_path / "stripped.html"
    stripped.write_text(re.sub(r"<iframe.*</iframe>", "", path.read_text(), flags=re.DOTALL), encoding="utf-8")
    assert visit(path=stripped).locator("img").is_visible()


def test_how_fast_it_is(visit):
    """Printed, not asserted: the machine may be busy."""
    view = visit(still=False)
    first = view.evaluate(
        """() => new Promise((done) => new PerformanceObserver((list) => done(list.getEntriesByName("first-contentful-paint")[0].startTime))
            .observe({ type: "paint", buffered: true }))"""
    )
    timed = view.evaluate(
        """async () => {
            const next = () => new Promise(requestAnimationFrame), slider = document.getElementById("scaler");
            const toFrame = [], work = [], image = {};
            state.touched = true;
            for (let i = 0; i < 100; i++) {
                await next();
                const start = performance.now();
                slider.value = ((i * 7) % 21) / 20;
                slider.dispatchEvent(new Event("input"));
                await next();
                toFrame.push(performance.now() - start);
            }
            for (let i = 0; i < 100; i++) {
                state.step = (i * 7) % 21;
                const start = performance.now();
                frame();
                work.push(performance.now() - start);
            }
            for (const e in given.nets) for (const step of [20, 0]) {
                const net = new Net(given.nets[e].program), times = [];
                for (const knob of Object.keys(net.knobs)) net.turn(knob, step / last);
                for (let i = 0; i < 80; i++) {
                    const pixels = normalised(held[i % held.length]), start = performance.now();
                    net.show(pixels);
                    net.get("logits");
                    times.push(performance.now() - start);
                }
                image[`e${e} at ${step / last}`] = times.sort((a, b) => a - b)[40];
            }
            return { toFrame, work, image };
        }"""
    )
    view.evaluate("() => change({ step: 0 })")
    start = view.evaluate("performance.now()")
    view.locator("#measure").click()
    view.wait_for_function("() => document.body.dataset.statistics === 'measured'", timeout=30_000)
    measured = view.evaluate("performance.now()") - start

    def both(values):
        return f"{statistics.median(values):.1f} ms, p95 {np.percentile(values, 95):.1f} ms"

    print(f"\nfirst paint after {first:.0f} ms; input to frame {both(timed['toFrame'])}; work of a frame {both(timed['work'])}")
    print("one image:", json.dumps({name: round(value, 2) for name, value in timed["image"].items()}), f"; BN anew in {measured:.0f} ms")
