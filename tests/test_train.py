import math
import os
import shutil

import pytest
import torch
from networks import small
from torch import nn

from reducenet.data.tensors import load
from reducenet.learn.device import memory_layout
from reducenet.learn.evaluate import accuracy
from reducenet.learn.losses import cross_entropy, kd
from reducenet.learn.replicates import fit_replicates
from reducenet.learn.train import SCHEDULES, DivergedError, check_fits, fit
from reducenet.methods.vanillanet import vanillanet
from reducenet.nets.activation import LambdaReLU, slide
from reducenet.nets.networks import build
from reducenet.words import MoveError

QUIET = dict(device="cpu", progress=False)


@pytest.fixture(scope="module")
def data():
    return load("synthetic")


def test_learns_the_synthetic_classes(data):
    start = small("scaler")
    before = {name: t.clone() for name, t in start.state_dict().items()}
    net, rows = fit(start, data, epochs=4, batch=32, **QUIET)
    assert accuracy(net, data, data.test) > 0.9 > 0.5 > accuracy(start, data, data.test)
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert rows[-1]["val_accuracy"] == accuracy(net, data, data.val)
    assert rows[0]["train_loss"] > rows[-1]["train_loss"]
    assert all(torch.equal(before[name], t) for name, t in start.state_dict().items())


def test_same_seed_same_weights_other_seed_other_weights(data):
    torch.manual_seed(5)
    one = fit(small("plain"), data, epochs=1, seed=1, **QUIET).net.state_dict()
    torch.manual_seed(6)
    two = fit(small("plain"), data, epochs=1, seed=1, **QUIET).net.state_dict()
    other = fit(small("plain"), data, epochs=1, seed=2, **QUIET).net.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])


def test_one_step_is_nesterov_as_written(data):
    """One step of the loop against the update rule by hand: g + wd w, v = g, w - lr (g + m v)."""
    few = data.subset(32)
    start = small("plain")
    seen = []

    def spy(net, x, y):
        seen.append((x, y))
        return cross_entropy(net, x, y)

    after = fit(start, few, epochs=1, batch=32, lr=0.05, weight_decay=0.01, schedule="cosine", loss=spy, **QUIET).net
    net = small("plain").train()
    loss, _ = cross_entropy(net, *seen[0])
    loss.backward()
    for name, w in net.named_parameters():
        g = w.grad + 0.01 * w.detach()
        torch.testing.assert_close(after.get_parameter(name).detach(), w.detach() - 0.05 * (g + 0.9 * g), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_peak_at_1_and_end_at_0(name):
    values = [SCHEDULES[name](i / 1000) for i in range(1001)]
    assert max(values) == pytest.approx(1, abs=1e-3)
    assert values[-1] == pytest.approx(0, abs=1e-9)
    assert min(values) >= 0


def test_hooks_run_at_every_step_and_the_slide_ends_linear(data):
    seen = []
    net, _ = fit(small("lambda"), data, epochs=2, hooks=[slide("linear"), lambda net, p: seen.append(p)], **QUIET)
    steps = 2 * math.ceil(512 / 128)
    assert seen == pytest.approx([i / (steps - 1) for i in range(steps)])
    assert all(m.lam == 1 for m in net.modules() if isinstance(m, LambdaReLU))


def test_divergence_is_reported_with_the_epochs_before_it(data):
    calls = []

    def breaks(net, x, y):
        loss, logits = cross_entropy(net, x, y)
        calls.append(1)
        return (loss * float("nan") if len(calls) > 5 else loss), logits

    with pytest.raises(DivergedError, match="epoch 1.*smaller lr") as error:
        fit(small("plain"), data, epochs=3, loss=breaks, **QUIET)
    assert len(error.value.rows) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schedule": "step"}, "fit: unknown schedule 'step'; known: one-cycle, cosine"),
        ({"epochs": 0}, "fit: epochs must be at least 1, not 0"),
        ({"batch": 0}, "fit: batch must be at least 1, not 0"),
        ({"epochs": None}, "fit: a fit needs either epochs or cost_of"),
        ({"epochs": None, "cost_of": "plain"}, "fit: cost_of names an arm of a study file; a call says epochs"),
        ({"slide_until": 0.5}, "fit: nothing reads 'slide_until' here, nothing slides"),
        ({"loss": "cross"}, "fit: unknown loss 'cross'; known: ce, "),
        ({"temperature": 2.0}, "fit: nothing reads 'temperature' here; leave it out"),
        ({"device": "cuda"}, "no CUDA device"),
    ],
)
def test_bad_arguments(arguments, message, data):
    if arguments.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ValueError, match=message):
        fit(small("plain"), data, **{"epochs": 1, "progress": False, **arguments})


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (lambda: build("plain", width=4), r"fit: the network has 10 outputs, synthetic has 4 classes; build\(\.\.\., num_classes=4\)"),
        (lambda: small("plain", in_channels=3), r"fit: the network takes no images of \(1, 12, 12\) \(C, H, W\): "),
    ],
)
def test_a_network_that_does_not_fit_the_data(net, message, data):
    with pytest.raises(MoveError, match=message):
        fit(net(), data, epochs=1, **QUIET)


def test_names_of_a_loss_and_of_a_slide_are_their_functions(data):
    net, teacher = small("lambda"), small("scaler", seed=1)
    named = fit(net, data, epochs=1, loss="kd", teacher=teacher, temperature=2.0, slide="half-cosine", slide_until=0.5, **QUIET)
    made = fit(net, data, epochs=1, loss=kd(teacher, temperature=2.0), hooks=[slide("half-cosine", until=0.5)], **QUIET)
    assert all(torch.equal(t, made.net.state_dict()[name]) for name, t in named.net.state_dict().items())
    assert [row["train_loss"] for row in named.rows] == [row["train_loss"] for row in made.rows]
    plain = fit(net, data, epochs=1, slide="half-cosine", slide_until=0.5, **QUIET)
    assert not torch.equal(plain.net.classifier.weight, made.net.classifier.weight)


def test_nothing_to_train(data):
    net = small("plain").requires_grad_(False)
    with pytest.raises(ValueError, match="every parameter is frozen"):
        fit(net, data, epochs=1, **QUIET)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_trains_in_mixed_precision(data):
    net, _ = fit(small("scaler"), data, epochs=4, batch=32, device="cuda", progress=False)
    assert accuracy(net.cpu(), data, data.test) > 0.9


def test_views_change_with_epoch_fit_and_seed_and_nothing_else(data):
    def views(**key):
        seen = []

        def spy(net, x, y):
            seen.append(x.sum().item())
            return cross_entropy(net, x, y)

        fit(small("plain"), data.subset(64), epochs=2, batch=64, loss=spy, lr=1e-3, **QUIET, **key)
        return seen

    first = views()
    assert first[0] != first[1]
    assert views() == first
    assert not set(first) & set(views(nth_fit=1))
    assert not set(first) & set(views(seed=1))


def test_narrow_networks_on_the_cpu_are_not_trained_in_channels_last():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    for width, device, layout in ((4, cpu, torch.contiguous_format), (8, cpu, torch.channels_last), (4, cuda, torch.channels_last)):
        assert memory_layout(build("plain", width=width), device) is layout


def test_a_single_step_slides_to_the_end(data):
    net, _ = fit(small("lambda"), data.subset(32), epochs=1, hooks=[slide("linear")], **QUIET)
    assert all(m.lam == 1 for m in net.modules() if isinstance(m, LambdaReLU))


def test_no_bar_where_nobody_looks(data, capsys):
    fit(small("plain"), data.subset(32), epochs=1, device="cpu")
    assert capsys.readouterr().err == ""  # no terminal here


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_auto_on_cuda_gives_the_network_back_where_it_was(data):
    teacher = small("scaler")
    net, _ = fit(small("plain"), data, epochs=1, loss=kd(teacher), progress=False)
    assert next(net.parameters()).device == torch.device("cpu")
    assert 0 <= accuracy(net, data, data.test) <= 1


# ---- the last batch of an epoch


HEAD = lambda: nn.Sequential(nn.Flatten(), nn.Linear(144, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))  # noqa: E731


@pytest.mark.parametrize("make", [HEAD, lambda: vanillanet(width=4, num_classes=4)])
@pytest.mark.parametrize(
    ("count", "batch", "other"), [(129, 128, "129"), (257, 64, "65"), (5, 4, "5"), (3, 1, "3"), (1, 7, "none with so few")]
)
@pytest.mark.parametrize("how", [fit, lambda net, data, **given: fit_replicates([net, net], data, seeds=(0, 1), **given)])
def test_an_image_that_is_left_alone_is_found_before_anything_is_trained(make, count, batch, other, how):
    data = load("synthetic").subset(count)
    said = f"^fit: {count} images in batches of {batch} leave one image alone, and a BatchNorm .*; another batch would do: {other}"
    with pytest.raises(MoveError, match=said):
        how(make(), data, epochs=1, batch=batch, device="cpu", progress=False)


@pytest.mark.parametrize(("make", "batch"), [(HEAD, 127), (lambda: build("plain", width=4, num_classes=4), 128)])
def test_an_image_that_is_left_alone_where_that_does_no_harm_is_trained_on(make, batch):
    """Another batch; or maps of more than one pixel."""
    fit(make(), load("synthetic").subset(129), epochs=1, batch=batch, lr=0.01, device="cpu", progress=False)


def test_looking_at_the_last_batch_draws_nothing():
    net = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(144, 4))
    data, ends = load("synthetic").subset(129), []
    for _ in range(2):
        torch.manual_seed(3)
        ends.append(fit(net, data, epochs=1, batch=128, device="cpu", progress=False).net[2].weight)
    torch.manual_seed(3)
    check_fits(net, data, 128)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(*ends)


@pytest.mark.slow  # compiling takes tens of seconds
@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="compiling needs a C++ compiler")
@pytest.mark.parametrize("how", [{}, {"slide": "linear"}])
def test_a_compiled_step_takes_the_same_steps(data, how):
    few = data.subset(64)
    start = vanillanet(width=4, num_classes=4) if how else small("scaler")
    told = dict(epochs=2, batch=32, **how, **QUIET)
    eager, compiled = fit(start, few, **told), fit(start, few, loss=torch.compile(cross_entropy), **told)
    for row, other in zip(eager.rows, compiled.rows, strict=True):
        assert other["train_loss"] == pytest.approx(row["train_loss"], abs=1e-4)
    for name, tensor in eager.net.state_dict().items():
        torch.testing.assert_close(compiled.net.state_dict()[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
