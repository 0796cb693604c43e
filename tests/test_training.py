"""Training live: what the buttons do, without a browser. A kernel's thread does the rest."""

import threading

import pytest
import torch

from reducenet import build, fit, freeze, load_data
from reducenet.course.training import Training
from reducenet.play.checkpoint import digest


@pytest.fixture(scope="module")
def data():
    return load_data("synthetic").subset(256)


@pytest.fixture
def net():
    return build("plain", width=4, num_classes=4)


def trained(net, data, **options):
    live = Training(net, data, **options)
    live.button.click()
    live.thread.join(60)
    return live


def test_it_trains_as_fit_does_and_leaves_what_it_was_given(net, data):
    before = digest(net)
    live = trained(net, data, epochs=2, lr=0.1, seed=3)
    assert digest(live.net) == digest(fit(net, data, epochs=2, lr=0.1, seed=3, device="cpu", progress=False).net) != before
    assert digest(net) == before
    assert "done: " in live.said.value
    assert (live.points[0][0], live.points[-1][0]) == (0.0, 2.0)
    assert len(live.points) > 3
    assert (live.button.disabled, live.halt.disabled) == (False, True)
    assert 'role="status"' in live.said.value


def test_stop_leaves_the_network_of_that_moment(net, data):
    live = Training(net, data, epochs=60, lr=0.1, hooks=[lambda net, progress: reached.set() if progress > 0.02 else None])
    reached = threading.Event()
    live.train()
    assert reached.wait(60)
    live.halt.click()
    live.thread.join(60)
    assert "stopped: " in live.said.value
    assert 0 < live.points[-1][0] < 60
    assert digest(live.net) != digest(net)
    assert not live.net.training
    assert not live.button.disabled
    live.epochs.value = 1
    live.train()  # from the start again
    live.thread.join(60)
    assert live.points[0][0] == 0.0
    assert "done" in live.said.value


def test_a_second_press_starts_no_second_training(net, data):
    live, gate = Training(net, data, epochs=1, hooks=[lambda net, progress: gate.wait(60)]), threading.Event()
    live.train()
    first = live.thread
    live.train()
    assert live.thread is first
    assert live.button.disabled
    gate.set()
    first.join(60)


def test_what_goes_wrong_is_said(net, data):
    live = trained(freeze(net, "all"), data, epochs=1)
    assert "it ended with MoveError: fit: every parameter is frozen" in live.said.value
    assert not live.button.disabled
    net.classifier.weight.data.fill_(float("nan"))
    assert "DivergedError" in trained(net, data, epochs=1).said.value


def test_the_curve_is_drawn_anew(net, data):
    live = Training(net, data, epochs=1)
    empty = bytes(live.curve.value)
    assert empty.startswith(b"\x89PNG")
    live.train()
    live.thread.join(60)
    assert bytes(live.curve.value) != empty
    assert torch.is_grad_enabled()


def test_where_no_kernel_runs_it_says_so(net, data):
    shown = Training(net, data)._repr_mimebundle_()
    assert shown["text/plain"].startswith("Training live needs a kernel")
    assert "application/vnd.jupyter.widget-view+json" in shown
