"""The repairs of what `merge` refuses: the single module is the pair everywhere, and the pair changed where and only where it says so.

The oracle is that of the algebra: answers to the zero image and every unit impulse, ring and interior apart.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from convs import SIDE, answer, assert_differ_on_the_ring_alone, assert_equal, conv, filled, pairs, probes, reproducible
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from reducenet.algebra.borders import STRATEGIES, BiasMap, OnesChannel, padded_first, repair
from reducenet.algebra.exact import NotExact, fold_bn, merge

SAME = ("ones-channel", "bias-map")


def state(*modules):
    return [(str(m), {name: t.clone() for name, t in m.state_dict().items()}) for m in modules]


def assert_unchanged(before, *modules):
    for (text, tensors), module in zip(before, modules, strict=True):
        assert str(module) == text
        assert all(torch.equal(tensors[name], t) for name, t in module.state_dict().items())


@pytest.mark.parametrize("strategy", STRATEGIES)
@reproducible(150)
@given(pair=pairs("bias"), height=SIDE, width=SIDE)
def test_every_strategy_repairs_a_bias_on_the_ring(strategy, pair, height, width):
    x = probes(pair.first.in_channels, height, width)
    if strategy == "bias-map" and answer(pair, x) is None:
        with pytest.raises(NotExact, match="too small"):
            repair(pair.first, pair.second, strategy, (height, width))
        return
    before = state(pair.first, pair.second)
    made, one, same_function = repair(pair.first, pair.second, strategy, (height, width))
    assert_equal(one, made, x)
    assert same_function == (strategy in SAME)
    if same_function:
        assert_equal(made, pair, x)
    else:
        assert_differ_on_the_ring_alone(made, pair)
    assert_unchanged(before, pair.first, pair.second)


@reproducible(150)
@given(pair=pairs("pixels"), height=SIDE, width=SIDE)
def test_only_pad_first_repairs_pixels_on_the_ring(pair, height, width):
    for strategy in STRATEGIES[1:]:
        with pytest.raises(NotExact, match=f"repair: {strategy} helps where a bias alone .* only pad-first is left"):
            repair(pair.first, pair.second, strategy, (height, width))
    made, one, same_function = repair(pair.first, pair.second, "pad-first")
    assert_equal(one, made, probes(pair.first.in_channels, height, width))
    assert not same_function
    assert_differ_on_the_ring_alone(made, pair)


@pytest.mark.parametrize("on_ring", ["nothing", "zeros"])
@reproducible(50)
@given(data=st.data())
def test_a_pair_that_merges_needs_no_repair(on_ring, data):
    pair = data.draw(pairs(on_ring))
    for strategy in STRATEGIES:
        with pytest.raises(NotExact, match="nothing to repair"):
            repair(pair.first, pair.second, strategy, (9, 9))
    padded = padded_first(pair.first, pair.second)  # a move may call it everywhere: here it changes nothing
    assert_equal(nn.Sequential(*padded), pair, probes(pair.first.in_channels, 6, 7))


@pytest.mark.parametrize("on_ring", ["nothing", "zeros", "bias", "pixels"])
@reproducible(100)
@given(data=st.data(), height=SIDE, width=SIDE)
def test_padded_first_always_merges_and_keeps_the_size(on_ring, data, height, width):
    pair = data.draw(pairs(on_ring))
    first, second = padded_first(pair.first, pair.second)
    x = probes(pair.first.in_channels, height, width)
    assert_equal(merge(first, second), nn.Sequential(first, second), x)
    before, after = answer(pair, x), answer(nn.Sequential(first, second), x)
    if before is not None:
        assert after.shape == before.shape


@pytest.mark.parametrize("strategy", STRATEGIES)
@reproducible(30)
@given(pair=pairs("bias"))
def test_the_structure_decides_and_not_the_values(strategy, pair):
    """Replayed on a bias of zeros, a repair gives modules of the same shape, into which the weights of the old ones load."""
    empty = [copy.deepcopy(c) for c in (pair.first, pair.second)]
    for c in empty:
        for parameter in c.parameters():
            nn.init.zeros_(parameter)
    size = (24, 24)
    old, new = repair(pair.first, pair.second, strategy, size), repair(*empty, strategy, size)
    assert new.same_function == old.same_function
    x = torch.randn(1, pair.first.in_channels, *size, dtype=torch.float64)
    for module, twin in ((old.pair, new.pair), (old.one, new.one)):
        twin.load_state_dict(module.state_dict())
        assert torch.equal(twin(x), module(x))


@reproducible(100)
@given(pair=pairs("bias"))
def test_bias_pad_pads_with_the_bias(pair):
    """By the definition: the map between the two in a frame of b1, no padding after; gradients too, in train mode as in eval mode."""
    first, second = pair.first, pair.second
    (p_y, p_x), x = second.padding, probes(first.in_channels, 8, 9)
    inner = first(x)
    n, channels, height, width = inner.shape
    framed = first.bias.view(1, -1, 1, 1).expand(n, channels, height + 2 * p_y, width + 2 * p_x).clone()
    framed[:, :, p_y : p_y + height, p_x : p_x + width] = inner
    expected = F.conv2d(framed, second.weight, second.bias, second.stride, 0, groups=second.groups)
    made = repair(first, second, "bias-pad").pair.train()
    found = made(x)
    assert (found - expected).abs().max() < 1e-10
    grads = [torch.autograd.grad(y.square().sum(), c[0].bias)[0] for y, c in ((found, made), (expected, pair))]
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-8)


@reproducible(50)
@given(pair=pairs("bias"))
def test_no_bias_leaves_no_bias_between(pair):
    made = repair(pair.first, pair.second, "no-bias").pair
    assert made[0].bias is None
    assert made[1].padding == pair.second.padding
    assert torch.equal(made[0].weight, pair.first.weight)
    assert torch.equal(made[1].weight, pair.second.weight)


@pytest.mark.parametrize(("g1", "g2", "groups"), [(1, 1, 1), (4, 4, 4), (4, 2, 2), (1, 8, 1)])
def test_a_ones_channel_costs_one_channel_in_each_group(g1, g2, groups):
    first, second = conv(4, 8, 1, groups=g1), conv(8, 8, 3, padding=1, groups=g2)
    one = repair(first, second, "ones-channel").one
    assert isinstance(one, OnesChannel)
    assert [type(m) for m in one.children()] == [nn.Conv2d]
    assert (one.conv.groups, one.conv.in_channels, one.conv.kernel_size) == (groups, 4 + groups, (3, 3))
    assert_equal(one, nn.Sequential(first, second), probes(4, 5, 6))
    single = probes(4, 5, 6)[3]  # one image without a batch, as a conv takes it
    assert_equal(one, nn.Sequential(first, second), single)


def test_a_bias_map_has_nine_values_and_one_size():
    first, second = conv(2, 6, 1), conv(6, 3, 3, padding=1)
    one = repair(first, second, "bias-map", (7, 9)).one
    assert isinstance(one, BiasMap)
    assert [type(m) for m in one.children()] == [nn.Conv2d]
    assert one.conv.bias is None
    assert one.map.shape == (3, 7, 9)
    for channel in one.map:  # corners, edges, inside
        assert len(channel.detach().round(decimals=9).unique()) == 9
        assert len(channel[1:-1, 1:-1].detach().round(decimals=9).unique()) == 1
    with pytest.raises(ValueError, match=r"for images of \(7, 9\), not \(9, 7\)"):
        one(torch.zeros(1, 2, 9, 7, dtype=torch.float64))
    with pytest.raises(NotExact, match=r"needs the size of the images, \(H, W\)"):
        repair(first, second, "bias-map")


def kernels_seen(f, side):
    """By offset between output and pixel: every weight that `f`, one channel to one, stride 1, puts there, read from impulses."""
    out = answer(f, probes(1, side, side))
    seen = {}
    for i, response in enumerate((out[1:] - out[:1])[:, 0]):
        for y in range(side):
            for x in range(side):
                seen.setdefault((i // side - y, i % side - x), []).append(response[y, x])
    return {offset: torch.stack(weights) for offset, weights in seen.items()}


def test_no_single_conv_is_a_pair_with_pixels_on_the_ring():
    """A zero-padded conv puts one weight on one offset, wherever it is. Behind a 3x3 the padded 3x3 does not; behind a 1x1 it does."""
    second = conv(4, 1, 3, padding=1)
    spread = {
        kernel: max((w.max() - w.min()).item() for w in kernels_seen(nn.Sequential(first, second), 7).values())
        for kernel, first in ((1, conv(1, 4, 1)), (3, conv(1, 4, 3, padding=1)))
    }
    assert spread[1] < 1e-12
    assert spread[3] > 1e-3


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_repair_keeps_dtype_mode_and_what_is_frozen(strategy):
    first, second = nn.Conv2d(4, 8, 1).eval(), nn.Conv2d(8, 4, 3, padding=1).eval()
    made, one, _ = repair(first, second, strategy, (6, 6))
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(one(x), made(x), rtol=1e-4, atol=1e-5)
    assert {t.dtype for m in (made, one) for t in m.state_dict().values()} == {torch.float32}
    assert not any(m.training for part in (made, one) for m in part.modules())
    assert all(p.requires_grad for part in (made, one) for p in part.parameters())
    places = [{t.data_ptr() for t in m.state_dict().values()} for m in (nn.Sequential(first, second), made, one)]
    assert not places[0] & places[1] | places[0] & places[2] | places[1] & places[2]
    first.weight.requires_grad_(False)
    made, one, _ = repair(first, second, strategy, (6, 6))
    assert not any(p.requires_grad for p in one.parameters())
    assert [name for name, p in made.named_parameters() if not p.requires_grad] == ["0.weight"]
    first.bias.requires_grad_(False)
    made, one, _ = repair(first, nn.Conv2d(8, 4, 3, padding=1, bias=False), strategy, (6, 6))
    assert {name: p.requires_grad for name, p in made.named_parameters() if name != "1.weight"} == dict.fromkeys(
        ["0.weight", "1.bias"] if strategy == "no-bias" else ["0.weight", "0.bias"], False
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_repair_after_folding_a_bn_is_that_of_the_pair_with_the_bn(strategy):
    """conv1-BN-conv3, the order the article avoids: folded first, the BN's shift is the bias on the ring."""
    first, bn, second = conv(4, 8, 1, bias=False), filled(nn.BatchNorm2d(8), "bn"), conv(8, 4, 3, padding=1, bias=False)
    made, one, same_function = repair(fold_bn(first, bn), second, strategy, (6, 6))
    x = probes(4, 6, 6)
    assert_equal(one, made, x)
    wrong = (one(x) - second(bn(first(x)))).abs()
    assert wrong[..., 1:-1, 1:-1].max() < 1e-10
    for edge in (wrong[..., 0, :], wrong[..., -1, :], wrong[..., :, 0], wrong[..., :, -1]):
        assert edge.max() < 1e-10 if same_function else edge.max() > 1e-2


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: repair(conv(3, 4, 1), conv(5, 4, 3, padding=1), "pad-first"), "repair: .* 4 channels.*takes 5"),
        (lambda: repair(conv(3, 4, 1), nn.Identity(), "pad-first"), "repair: a plain Conv2d is needed, not Identity"),
        (lambda: repair(conv(3, 4, 1), conv(4, 4, 3, padding=1).to("meta"), "bias-pad"), "repair: .* agree in device"),
        (lambda: repair(conv(3, 4, 1), conv(4, 4, 3, padding="same"), "no-bias"), "repair: padding='same'"),
        (lambda: padded_first(conv(3, 4, 3, padding="same"), conv(4, 4, 3)), "padded_first: padding='same'"),
        (lambda: padded_first(conv(3, 4, 3), conv(4, 4, 3, padding_mode="reflect", padding=1)), "padded_first: padding_mode='reflect'"),
        (lambda: repair(conv(3, 4, 1), conv(4, 4, 3, padding=1), "bias-map", (0, 5)), r"\(0, 5\) pixels are too small"),
    ],
)
def test_refusals_name_the_rule(make, rule):
    with pytest.raises(NotExact, match=rule):
        make()


def test_an_unknown_strategy_is_answered_with_the_five():
    with pytest.raises(ValueError, match="unknown strategy 'mirror'; known: pad-first, bias-pad, no-bias, ones-channel, bias-map"):
        repair(conv(3, 4, 1), conv(4, 4, 3, padding=1), "mirror")
