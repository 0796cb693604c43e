import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from reducenet.activation import slide
from reducenet.chain import perform
from reducenet.checkpoint import CheckpointError, chain_of, load, save

BUILD = {"build": dict(block="scaler", width=4, expansion=2, num_classes=4)}
SENTENCES = [
    [BUILD],
    [BUILD, {"fit": {"epochs": 3}}, {"drop_branch": {}}, {"freeze": {"parts": ["classifier"]}}],
    [BUILD, {"drop_branch": {}}, {"freeze": {"parts": ["all"]}}, {"attach": {"expansion": 2}}],
    [BUILD, {"drop_branch": {}}, {"freeze": {"parts": ["all"]}}, {"attach": {"expansion": 2}}, {"fold": {}}],
    [{"build": dict(BUILD["build"], block="lambda", lam=1.0)}, {"fuse": {}}],
    [{"build": dict(BUILD["build"], block="lambda")}, {"fit": {"epochs": 1, "lam": "linear"}}, {"fuse": {}}],
]


def play(chain):
    net = None
    for move in chain:
        if "fit" in move:
            slide()(net, 1.0)
        else:
            net = perform(net if net is None else net.eval(), move, seed=3)
    return net


@pytest.mark.parametrize("chain", SENTENCES, ids=lambda chain: "-".join(next(iter(move)) for move in chain))
def test_load_rebuilds_whatever_the_moves_made(chain, randomised, tmp_path):
    net = play(chain)
    randomised(net).float()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) / 10)
    save(net, tmp_path / "net.safetensors", chain, seed=3)
    back = load(tmp_path / "net.safetensors")
    x = torch.randn(2, 1, 12, 12)
    assert torch.equal(back(x), net(x))
    assert chain_of(tmp_path / "net.safetensors") == chain
    assert [p.requires_grad for p in back.parameters()] == [p.requires_grad for p in net.parameters()]
    assert [f.name for f in tmp_path.iterdir()] == ["net.safetensors"]


def test_damaged_foreign_and_mismatched_files(tmp_path):
    net, path = play([BUILD]), tmp_path / "net.safetensors"
    save(net, path, [BUILD])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="net.safetensors: not a readable checkpoint") as error:
        load(path)
    assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load(tmp_path / "absent.safetensors")
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of reducenet"):
        load(path)
    for about, message in (("[1]", "not a readable"), ('{"format": 2}', "a checkpoint of format 2"), ("{", "not a readable")):
        save_file({"a": torch.zeros(1)}, path, {"reducenet": about})
        with pytest.raises(CheckpointError, match=message):
            load(path)
    save(net, path, [BUILD, {"drop_branch": {}}])
    with pytest.raises(CheckpointError, match="do not fit the moves"):
        load(path)


def test_equal_networks_are_equal_files(tmp_path):
    """In another process too: safetensors writes several metadata keys in any order."""
    code = "from reducenet import build, save; import sys; save(build('plain', width=4), sys.argv[1], [{'build': {'block': 'plain'}}])"
    for name in ("one", "two"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=True)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
