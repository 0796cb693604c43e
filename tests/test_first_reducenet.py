"""The first ReduceNet (a pair that becomes one conv3) and its leaner pipeline (one new conv3 in the pair's place)."""

import pytest
import torch
from networks import assert_equal_maps, small
from torch import nn

from reducenet.data.tensors import load as load_data
from reducenet.deploy.fuse import fuse
from reducenet.learn.measure import parameters
from reducenet.learn.train import fit
from reducenet.moves.activations import linearise
from reducenet.moves.freezing import freeze
from reducenet.moves.renew import renew
from reducenet.nets.activation import slide
from reducenet.nets.networks import build
from reducenet.play.checkpoint import CheckpointError, load, save
from reducenet.words import MoveError

LARGE = {"block": "lambda", "width": 4, "expansion": 3, "num_classes": 4}


def trained(net, **options):
    return fit(net, load_data("synthetic"), epochs=1, lr=0.05, device="cpu", progress=False, **options).net


def state(net):
    return {name: t.clone() for name, t in net.state_dict().items()}


@pytest.mark.parametrize("size", [3, 4, 12, 13])
def test_merged_is_linearised_on_the_ring_and_inside(size, randomised, images):
    net, x = linearise(randomised(build(**LARGE))), images(1, size)
    merged = fuse(net)
    assert_equal_maps(merged.stage1(merged.stem(x)), net.stage1(net.stem(x)))
    assert (merged(x) - net(x)).abs().max() < 1e-10
    assert parameters(merged) == parameters(fuse(randomised(small("plain"))))


def test_two_stages_with_a_frozen_classifier_then_conv3_and_both_bns():
    """The article's second stage: linear, with parts of the first frozen for good, momentum and weight decay or not."""
    large = trained(build(**LARGE))
    parts = ["classifier", "*.conv3.*", "*.pair.4.*", "*.bn3.*"]
    second = freeze(linearise(large), parts)
    before, after = state(second), trained(second, weight_decay=0.1, momentum=0.95, nth_fit=1).state_dict()
    frozen = [name for name in before if any(part in name for part in ("classifier", ".conv3.", ".pair.4.", ".bn3."))]
    assert len(frozen) == 2 + 3 * (1 + 2 * 5)
    for name in before:
        assert torch.equal(before[name], after[name]) == (name in frozen), name


def test_the_slide_ends_linear_and_fuses(images):
    net = trained(build(**LARGE), hooks=[slide("half-cosine", until=0.5)]).double()
    x = images(1, 12)
    assert (fuse(net)(x) - net(x)).abs().max() < 1e-10


def lean(large, start):
    return renew(freeze(large, "all"), start=start, seed=7)


@pytest.mark.parametrize("start", ["fresh", "merged"])
def test_only_the_new_conv_trains(start):
    large = trained(build(**LARGE))
    small = lean(large, start)
    tensors = ("weight", "bias") if start == "merged" else ("weight",)
    manifest = {f"stage{i}.0.pair.new.{tensor}" for i in (1, 2, 3) for tensor in tensors}
    assert {name for name, p in small.named_parameters() if p.requires_grad} == manifest
    before, after = state(small), trained(small, nth_fit=1).state_dict()
    for name in before:
        assert torch.equal(before[name], after[name]) == (name not in manifest), name
    assert all(torch.equal(after[name], t) for name, t in large.state_dict().items() if name in after)


def test_the_new_conv_starts_fresh_or_as_the_pair(randomised, images):
    large, x = randomised(build(**LARGE)), images(1, 12)
    merged = lean(large, "merged")
    assert (merged(x) - linearise(large)(x)).abs().max() < 1e-10
    fresh = lean(large, "fresh")
    assert (fresh(x) - merged(x)).abs().max() > 1e-2
    assert torch.equal(fresh.stage2[0].pair.new.weight, lean(large, "fresh").stage2[0].pair.new.weight)
    assert not torch.equal(fresh.stage2[0].pair.new.weight, renew(large, seed=8).stage2[0].pair.new.weight)
    plain = small("plain")
    assert parameters(fresh) == parameters(plain)
    assert (fuse(fresh)(x) - fresh(x)).abs().max() < 1e-10
    with pytest.raises(MoveError, match="renew: no lambda block with its pair"):
        renew(fresh)
    with pytest.raises(MoveError, match="renew: no lambda block with its pair .* there are: none"):
        renew(plain)
    with pytest.raises(MoveError, match="unknown start 'new'; known: fresh, merged"):
        renew(large, start="new")


@pytest.mark.parametrize("start", ["fresh", "merged"])
def test_large_and_small_are_one_file(start, tmp_path):
    large = trained(build(**LARGE))
    small = trained(lean(large, start), nth_fit=1)
    chain = [{"build": LARGE}, {"fit": {"epochs": 1}}, {"freeze": {"parts": ["all"]}}, {"renew": {"start": start}}, {"fit": {"epochs": 1}}]
    save(small, tmp_path / "both", chain, seed=7, large=large)
    x = torch.randn(2, 1, 12, 12)
    assert torch.equal(load(tmp_path / "both")(x), small(x))
    assert torch.equal(load(tmp_path / "both", large=True)(x), large(x))
    save(small, tmp_path / "small", chain, seed=7)
    save(large, tmp_path / "large", chain[:1], seed=7)
    sizes = {name: (tmp_path / name).stat().st_size for name in ("both", "small", "large")}
    assert sizes["both"] < 0.9 * (sizes["small"] + sizes["large"])  # what they share is there once
    with pytest.raises(CheckpointError, match="holds one network"):
        load(tmp_path / "small", large=True)


def test_one_file_is_refused_where_shared_tensors_differ(tmp_path):
    large = trained(build(**LARGE))
    small = trained(renew(large), nth_fit=1)
    chain = [{"build": LARGE}, {"fit": {"epochs": 1}}, {"renew": {}}, {"fit": {"epochs": 1}}]
    with pytest.raises(CheckpointError, match=r"stem\.0\.weight differs"):
        save(small, tmp_path / "both", chain, large=large)
    assert not list(tmp_path.iterdir())
    with pytest.raises(CheckpointError, match="no beginning of the chain"):
        save(build("plain", width=4), tmp_path / "both", [{"build": {"block": "plain", "width": 4}}], large=nn.Linear(2, 2))
