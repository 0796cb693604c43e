"""Page 00's panel: five steps of one network, each the real one, in the browser as in torch."""

import numpy as np
import pytest
import torch
from live_page import SIZES, chromium, in_browser, panel_visit, says, shown
from networks import small

from reducenet import accuracy, drop_branch, fuse, load_data, macs, parameters
from reducenet.course import nets
from reducenet.course.live.images import held_out, picked
from reducenet.course.panels.shrink import panel
from reducenet.course.panels.shrink.material import STEPS, material, steps

_ = chromium


@pytest.fixture(scope="module")
def walk():
    """The networks of the shipped panel, and the data."""
    data = load_data("fashion-mini")
    return steps(nets.shipped("teacher-e4"), nets.shipped("student-fc"), data), data


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    out = tmp_path_factory.mktemp("shrink") / "panel.html"
    out.write_text(panel.shipped().html, encoding="utf-8")
    return out


@pytest.fixture
def visit(chromium, file):
    yield from panel_visit(chromium, file)


def test_every_step_is_what_it_says(walk):
    found, data = walk
    x = data.normalise(data.val.images[:32])
    assert list(found) == list(STEPS)
    with torch.no_grad():
        torch.testing.assert_close(found["dropped"](x), drop_branch(found["whole"])(x))
        torch.testing.assert_close(found["fused"](x), found["trained"](x), rtol=0, atol=1e-4)
    for (name, weight), (other, anew) in zip(found["dropped"].named_parameters(), found["measured"].named_parameters(), strict=True):
        assert name == other
        assert torch.equal(weight, anew)  # no weight moved
    assert torch.equal(found["trained"].classifier.weight, found["whole"].classifier.weight)
    assert parameters(found["fused"]) == parameters(fuse(found["trained"])) < parameters(found["trained"])


def test_the_numbers_are_torchs(walk):
    found, data = walk
    given, held = material(found["whole"], found["trained"], data), held_out(data)
    for step, net in zip(given["steps"], found.values(), strict=True):
        assert step["right"] == round(accuracy(net, data, held) * len(held.labels))
        assert (step["parameters"], step["macs"]) == (parameters(net), macs(net, (1, 28, 28)))
    assert [step["layers"] for step in given["steps"]] == sorted((step["layers"] for step in given["steps"]), reverse=True)
    label = given["held"]["labels"][given["start"]]
    some = picked(held, 10)
    said = [net(data.normalise(some.images[given["start"]][None])).argmax().item() for net in found.values()]
    assert (said[0], said[3], said[1] != label) == (label, label, True)


def test_any_network_can_be_shown(randomised):
    data = load_data("synthetic")
    teacher = randomised(small("scaler"))
    given = material(teacher, drop_branch(teacher), data)
    assert 0 <= given["start"] < len(given["held"]["labels"])


@in_browser
class TestInTheBrowser:
    def test_every_step_gives_torchs_logits(self, visit, walk):
        found, data = walk
        view, some = visit(), picked(held_out(data), 10)
        index = view.evaluate("picker.image")
        for place, (name, net) in enumerate(found.items()):
            view.locator(f"[name=step][value='{place}']").focus()
            view.keyboard.press("Space")
            with torch.no_grad():
                expected = net(data.normalise(some.images[index : index + 1]))[0].numpy()
            assert np.abs(np.array(view.evaluate("[...net().get('logits')]")) - expected).max() < 1e-4, name
            assert np.abs(shown(view) - expected).max() < 0.051
            assert says(view, "title") == STEPS[name][0] + "."

    def test_it_plays_by_itself_and_again_when_asked(self, visit):
        view = visit(still=False)
        view.wait_for_function("() => document.body.dataset.step === 'dropped'", timeout=15_000)
        view.locator("#play").click()  # pause
        view.wait_for_timeout(2500)
        assert view.evaluate("state.step") == 1
        assert view.locator("#play").inner_text() == "Play"
        view.locator("[name=step][value='4']").check(force=True)
        assert view.locator("#play").inner_text() == "Again"
        view.locator("#play").click()
        assert view.evaluate("document.body.dataset.step") == "whole"

    def test_with_reduced_motion_it_waits(self, visit):
        view = visit(still=True)
        view.wait_for_timeout(2500)
        assert view.evaluate("[state.step, state.playing]") == [0, None]

    @pytest.mark.parametrize("size", SIZES)
    def test_images_are_picked_and_drawn_and_nothing_sticks_out(self, visit, size):
        view = visit(size=size)
        start = shown(view)
        view.locator("[name=class]").nth(9).focus()
        view.keyboard.press("Space")
        assert (shown(view) != start).any()
        view.locator("#another").click()
        view.locator("#clear").click()
        assert says(view, "verdict") == "you drew it"
        assert view.evaluate("document.documentElement.scrollWidth") == SIZES[size]["width"]
        targets = view.locator("button, .track-of-steps label, .thumbs label")
        assert min(targets.evaluate_all("(all) => all.map((node) => node.getBoundingClientRect().height)")) >= 44
