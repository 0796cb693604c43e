"""Programs against torch, without a browser: what is told, what is refused, what the page is made of."""

import base64
import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from networks import small
from torch import nn

from reducenet import accuracy, fuse, load_data, set_scaler
from reducenet.course.live.program import NotExpressible, program
from reducenet.course.live.reference import run_program
from reducenet.course.panels.fade import material as panel
from reducenet.course.panels.fade.bench import Bench
from reducenet.course.panels.fade.panel import live
from reducenet.methods.vanillanet import vanillanet
from reducenet.words import words


@pytest.fixture(scope="module")
def bench():
    return panel.shipped()


def gap(net, shape, images=3, **knobs):
    """The largest difference of logits between torch, in float64, and the program, as a share of the largest logit."""
    x = torch.randn(images, *shape)
    net = net.float()
    found = run_program(program(net, shape), x.numpy(), knobs)["logits"]
    with torch.no_grad():
        expected = net.double()(x.double()).numpy()
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


NETS = {name: lambda name=name: small(name, depth=14) for name in words("block")}
NETS |= {f"vanillanet-{depth}-{lam}": lambda d=depth, lam=lam: vanillanet(depth=d, width=4, lam=lam) for depth, lam in ((5, 0.3), (8, 1.0))}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("fused", [False, True])
def test_a_program_is_the_network(name, fused, randomised):
    net = randomised(NETS[name]())
    assert gap(fuse(net, strict=False) if fused else net, (1, 13, 11)) < 1e-5


def test_any_network_of_these_operations_can_be_told(randomised):
    assert gap(randomised(torchvision.models.resnet18(num_classes=7)), (3, 33, 40)) < 1e-5


LAYERS = {
    "grouped": nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), groups=2),
    "depthwise": nn.Conv2d(4, 4, 5, padding=2, groups=4, bias=False),
    "wider padding than kernel": nn.Conv2d(4, 2, 1, padding=2),
    "max": nn.MaxPool2d(3, 2, 1),
    "max, up": nn.MaxPool2d((2, 3), 2, ceil_mode=True),
    "flat": nn.Sequential(nn.Flatten(), nn.Linear(4 * 7 * 9, 5), nn.BatchNorm1d(5), nn.ReLU(inplace=True), nn.Linear(5, 3)),
    "bn without affine": nn.BatchNorm2d(4, affine=False),
    "pooled": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(4, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_operation_is_torchs(name):
    layer, x = nn.Sequential(LAYERS[name]).eval(), torch.randn(2, 4, 7, 9)
    values = run_program(program(layer, (4, 7, 9)), x.numpy())
    found = values[next(n for n, _ in reversed(list(layer.named_modules())) if n in values)]
    with torch.no_grad():
        np.testing.assert_allclose(found.reshape(layer(x).shape), layer(x), atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.35, 1.0])
def test_a_knob_is_the_scaler_and_values_have_the_names_of_their_modules(share, randomised):
    net = randomised(small("scaler", depth=14))
    x, seen = torch.randn(2, 1, 12, 12), {}
    moved = set_scaler(net, share)
    for name, module in moved.named_modules():
        if name.endswith(("branch1", "branch2", "post")):
            module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    with torch.no_grad():
        logits = moved(x.double())
    made = program(net, (1, 12, 12))
    assert set(made["knobs"].values()) == {1.0}
    assert len(made["knobs"]) == 6
    values = run_program(made, x.numpy(), dict.fromkeys(made["knobs"], share))
    np.testing.assert_allclose(values["logits"], logits, rtol=1e-5, atol=1e-5)
    last = {"branch1": ".5", "branch2": ".2", "post": ""}
    assert len(seen) == 18
    for name, value in seen.items():
        np.testing.assert_allclose(values[name + last[name.rpartition(".")[2]]], value, rtol=1e-5, atol=1e-5)


def test_lam_is_a_knob(randomised):
    net = randomised(small("lambda", lam=0.25))
    made, x = program(net, (1, 12, 12)), torch.randn(2, 1, 12, 12)
    assert set(made["knobs"].values()) == {0.25}
    before = run_program(made, x.numpy())["logits"]
    moved = run_program(made, x.numpy(), dict.fromkeys(made["knobs"], 1.0))["logits"]
    assert np.abs(before - moved).max() > 1e-3
    with torch.no_grad():
        for module in net.modules():
            if hasattr(module, "lam"):
                module.lam.fill_(1.0)
        np.testing.assert_allclose(moved, net(x.double()), rtol=1e-5, atol=1e-5)


class Odd(nn.Module):
    def __init__(self, does):
        super().__init__()
        self.conv, self.does = nn.Conv2d(1, 4, 3, padding=1), does

    def forward(self, x):
        return self.does(self.conv(x))


class Two(nn.Module):
    def forward(self, x, y=1.0):
        return x + y


def written_and_read(x):
    return torch.relu_(x) + x


REFUSED = {
    "1: there is no operation for a GELU": nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU()),
    "0: only convs without dilation": nn.Sequential(nn.Conv2d(1, 4, 3, dilation=2)),
    "0: only convs without dilation, padded with zeros": nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect")),
    "0: it keeps no running statistics": nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False)),
    "0: a Linear only of one vector": nn.Sequential(nn.Linear(12, 2)),
    "0: only the mean over the whole map": nn.Sequential(nn.AdaptiveAvgPool2d(2)),
    "0: only a MaxPool2d without dilation": nn.Sequential(nn.MaxPool2d(2, dilation=2)),
    r"0: it makes \[1, 2, 6, 12\] of \[1, 12, 12\]": nn.Sequential(nn.Unflatten(2, (2, 6)), nn.Flatten(1, 2)),
    "cat: there is no operation for it": Odd(lambda x: torch.cat([x, x], 1)),
    "mul: only a number times a value": Odd(lambda x: x * x),
    "mean: only the mean over the pixels": Odd(lambda x: x.mean(1)),
    "conv: it is written into, and read more than once": Odd(written_and_read),
    r"add: it adds \[4, 12, 12\] and \[4, 1, 1\]": Odd(lambda x: x + x.mean((2, 3), keepdim=True)),
    r"the network takes no images of \(1, 12, 12\) \(C, H, W\): Given groups=1": nn.Conv2d(3, 2, 3),
    r"output: it reads \[conv, conv\]": Odd(lambda x: [x, x]),
    "y: there is no operation for it": Two(),
    "add: it reads 1.0, which no operation makes": Odd(lambda x: x + 1.0),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_told_is_refused_in_one_line(message):
    with pytest.raises(NotExpressible, match=f"^program: {message}") as caught:
        program(REFUSED[message].eval(), (1, 12, 12))
    assert "\n" not in str(caught.value)


def test_a_net_in_train_mode_is_refused_and_one_that_is_told_stays_as_it_is():
    with pytest.raises(NotExpressible, match=r"stem.0 is in train mode; call .eval\(\) first"):
        program(small("plain"), (1, 12, 12))
    net = small("plain").double().eval()
    program(net, (1, 12, 12))
    assert next(net.parameters()).dtype == torch.float64


def test_recorded_curves_are_what_torch_measures(bench):
    for expansion, teacher in bench.teachers.items():
        curves = panel.record.read(panel.RECORD)[panel.digest(teacher, bench)]  # KeyError: python -m ...fade.material
        assert len(curves["trained"]) == len(curves["measured"]) == panel.STEPS
        assert all(len(row) == panel.STEPS for row in curves["measured"].values())
        anew = panel.anew(teacher, bench.data, panel.SCALERS[3])
        for step in (0, 3, 20):
            for row, net in ((curves["trained"], teacher), (curves["measured"]["3"], anew)):
                found = accuracy(set_scaler(net, panel.SCALERS[step]), bench.data, bench.held)
                assert row[step] == pytest.approx(500 * found, abs=2), (expansion, step)  # images, on another processor


def test_a_teacher_that_nobody_recorded_is_measured(bench):
    other = Bench({4: set_scaler(bench.teachers[4], 0.5)}, load_data("synthetic"), images=20)
    given = panel.material(other, scaler=0.5, expansion=8)
    assert given["start"]["expansion"] == 4
    assert given["nets"][4]["home"] == 0.5
    assert list(given["nets"][4]["curves"]["measured"]) == ["0"]
    json.dumps(given)


def test_costs_are_those_of_the_deployed_and_of_the_trained_network(bench):
    costs = panel.material(bench)["nets"][4]["costs"]
    for name, (parameters, macs) in {what: costs[what] for what in ("teacher", "fused")}.items():
        assert (parameters, macs) == {"teacher": (51_090, 1_783_392), "fused": (50_642, 1_783_392)}[name]
    assert costs["deployed"][1] == costs["student"][1] < costs["fused"][1]
    assert costs["deployed"][0] < costs["student"][0] < costs["fused"][0]


def test_the_page_is_one_small_file_that_asks_for_nothing(bench):
    text = live(bench.data, bench.teachers).html
    assert len(text.encode()) <= 1.5e6
    assert not re.search(r"https?:|\ssrc=|@import|fetch\(|XMLHttpRequest|import\(", text.replace('href="data:,"', ""))
    assert "default-src 'none'" in text
    assert text.count("</script>") == 2
    for node in re.findall(r"<(?:input|button|canvas)[^>]*>", text):
        assert "aria-label" in node or "<button" in node or 'width="28"' in node, node  # those canvases stand in a labelled radio button


def test_names_of_classes_cannot_end_a_script(bench):
    nasty = replace(bench.data, classes=("</script><b>", *bench.data.classes[1:]))
    text = live(nasty, {1: bench.teachers[1]}).html
    assert text.count("</script>") == 2
    assert "</script><b>" not in text
    assert "&lt;/script&gt;&lt;b&gt;" in text


def test_in_a_notebook_a_picture_stands_beside_the_frame(bench):
    bundle = live(bench.data, bench.teachers, expansion=2)._repr_mimebundle_()
    html = bundle["text/html"]
    assert re.fullmatch(r'<div><iframe title="[^"]+" srcdoc="[^"]+" style="[^"]+"></iframe><img data-without-scripts [^>]+></div>', html)
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert f"data:image/png;base64,{bundle['image/png']}" in html
    said = r"Expansion 2: 80 % of 500 held-out images are right at scaler 1, 29 % at 0, and \d\d % at 0 once"
    assert re.search(said, bundle["text/plain"])


@pytest.mark.engine
def test_the_command_writes_the_file(tmp_path):
    done = subprocess.run([sys.executable, "-m", "reducenet.course.live", "fade", tmp_path / "out.html"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "MB" in done.stdout
    assert (tmp_path / "out.html").read_text().startswith("<!doctype html>")
    again = subprocess.run([*done.args[:-1], tmp_path / "none" / "x.html"], capture_output=True, text=True)
    assert again.returncode == 1
    assert again.stderr == f"{tmp_path / 'none' / 'x.html'}: No such file or directory\n"
