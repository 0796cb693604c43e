"""Exported is the same network: the real runtimes are started and asked."""

import sys

import pytest
import torch
import torchvision
from networks import small
from torch import nn

from reducenet.algebra.exact import NotExact
from reducenet.deploy.export import MissingExtra, to_onnx, to_program
from reducenet.moves.branch import drop_branch
from reducenet.moves.side import attach

BATCHES = (1, 2, 5)


def attached(randomised):
    """A student with a side branch that is not nothing."""
    net = attach(drop_branch(small("scaler")))
    for name, p in net.named_parameters():
        if "parametrizations" in name and "original" not in name:
            nn.init.normal_(p)
    return randomised(net)


NETS = {
    "student": (lambda randomised: randomised(drop_branch(small("scaler"))), (1, 12, 12)),
    "side branch": (attached, (1, 12, 12)),
    "lambda": (lambda randomised: randomised(small("lambda", lam=1.0)), (1, 12, 12)),
    "half-way lambda": (lambda randomised: randomised(small("lambda", lam=0.5)), (1, 12, 12)),
    "resnet18": (lambda randomised: randomised(torchvision.models.resnet18(weights=None, num_classes=7)), (3, 32, 32)),
}


def assert_close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("name", ["student", "side branch", "half-way lambda"])
def test_a_program_is_the_network_for_every_batch_size(name, randomised):
    make, shape = NETS[name]
    net = make(randomised).float()
    program = to_program(net, shape)
    for batch in BATCHES:
        x = torch.randn(batch, *shape)
        with torch.no_grad():
            assert_close(program.module()(x), net(x))
    assert [limits.lower for limits in program.range_constraints.values()] == [1]
    assert not any("batch_norm" in str(node.target) for node in program.graph.nodes)


@pytest.mark.parametrize("name", ["student", "side branch", "lambda", "resnet18"])
def test_onnxruntime_computes_the_same_logits(name, randomised, tmp_path, capfd):
    onnxruntime = pytest.importorskip("onnxruntime")
    make, shape = NETS[name]
    net = make(randomised).float()
    before = {key: t.clone() for key, t in net.state_dict().items()}
    path = to_onnx(net, shape, tmp_path / "net.onnx")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]  # weights inside, nothing left over
    assert capfd.readouterr() == ("", "")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    ((images,), (logits,)) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.shape, logits.name) == ("images", ["batch", *shape], "logits")
    for batch in BATCHES:
        x = torch.randn(batch, *shape)
        with torch.no_grad():
            assert_close(torch.from_numpy(session.run(None, {"images": x.numpy()})[0]), net(x))
    assert all(torch.equal(before[key], t) for key, t in net.state_dict().items())


def test_half_a_file_never_appears(randomised, tmp_path, monkeypatch):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"the old one")

    def interrupted(self, destination, **_):
        destination.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch.onnx.ONNXProgram, "save", interrupted)
    with pytest.raises(OSError, match="disk full"):
        to_onnx(randomised(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))), (3, 8, 8), path)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("net.onnx", b"the old one")]


def test_what_cannot_be_exported_says_why_in_one_line(randomised, tmp_path, monkeypatch):
    with pytest.raises(NotExact, match="train mode"):
        to_program(small("plain"), (1, 12, 12))
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtra, match=r'^to_onnx needs onnxscript: pip install "reducenet\[export\]"$'):
        to_onnx(randomised(small("plain")), (1, 12, 12), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
