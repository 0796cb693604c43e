"""The oracle is the definition: run what was replaced, everywhere, ring and interior apart, on maps larger and smaller than the kernel."""

import copy
import itertools
import math

import pytest
import torch
from convs import (
    SIDE,
    Sum,
    assert_differ_on_the_ring_alone,
    assert_equal,
    assert_same,
    axes,
    careless,
    conv,
    filled,
    pairs,
    probes,
    reproducible,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.fusion import fuse_conv_bn_eval

from reducenet.algebra.exact import NotExact, add, bn_as_conv, fold_bn, identity_conv, merge, ring


@pytest.mark.parametrize("on_ring", ["nothing", "zeros"])
@reproducible(400)
@given(data=st.data(), height=SIDE, width=SIDE)
def test_merge_is_exact_where_nothing_or_zeros_lie_on_the_ring(on_ring, data, height, width):
    pair = data.draw(pairs(on_ring))
    merged = merge(pair.first, pair.second)
    assert type(merged) is nn.Conv2d
    assert_equal(merged, pair, probes(pair.first.in_channels, height, width))


@pytest.mark.parametrize(("on_ring", "rule"), [("bias", "bias before padding"), ("pixels", "padding .* on the second conv")])
@reproducible(400)
@given(data=st.data())
def test_what_merge_refuses_is_wrong_on_the_ring_and_only_there(on_ring, rule, data):
    """Both directions of the theorem: for every pair refused there is an image that a merge without the rule gets wrong."""
    pair = data.draw(pairs(on_ring))
    with pytest.raises(NotExact, match=rule):
        merge(pair.first, pair.second)
    assert_differ_on_the_ring_alone(careless(pair.first, pair.second), pair)


@pytest.mark.parametrize("on_ring", ["nothing", "zeros", "bias", "pixels"])
@reproducible(100)
@given(data=st.data())
def test_the_structure_decides_and_not_the_values(on_ring, data):
    """Fresh weights, zeros say, take the same moves to the same shapes."""
    pair = data.draw(pairs(on_ring))
    assert ring(pair.first, pair.second) == on_ring
    empty = [copy.deepcopy(c) for c in pair[:2]]
    for parameter in itertools.chain(*(c.parameters() for c in empty)):
        nn.init.zeros_(parameter)
    if on_ring in ("bias", "pixels"):
        with pytest.raises(NotExact):
            merge(*empty)
    else:
        assert str(merge(*empty)) == str(merge(pair.first, pair.second))


def wiring(c):
    """[out, in]: which outputs read which inputs."""
    return torch.block_diag(*[torch.ones(c.out_channels // c.groups, c.in_channels // c.groups)] * c.groups)


def most_groups(wires):
    """The largest number of groups that a conv wired so can have, by trying."""
    out, into = wires.shape
    for groups in (g for g in range(min(out, into), 0, -1) if out % g == into % g == 0):
        allowed = torch.block_diag(*[torch.ones(out // groups, into // groups)] * groups)
        if not (wires[allowed == 0] > 0).any():
            return groups
    raise AssertionError


@reproducible(400)
@given(pair=pairs("nothing"))
def test_merge_has_as_many_groups_as_the_structure_allows(pair):
    assert merge(pair.first, pair.second).groups == most_groups(wiring(pair.second) @ wiring(pair.first))


@pytest.mark.parametrize(
    ("g1", "g2", "groups"),
    [(8, 8, 8), (1, 8, 1), (8, 1, 1), (4, 4, 4), (4, 2, 2), (2, 8, 2)],
)
def test_depthwise_stays_depthwise_and_dense_is_dense(g1, g2, groups, images):
    first, second = conv(8, 8, 3, padding=1, groups=g1), conv(8, 8, 2, groups=g2)
    merged = merge(first, second)
    assert merged.groups == groups
    assert merged.weight.shape == (8, 8 // groups, 4, 4)
    assert_same(merged, nn.Sequential(first, second), 8, images)


def test_the_inverted_bottleneck_is_one_conv(images):
    """pointwise, depthwise, pointwise: exact in this order while the first has no bias."""
    first, middle, last = conv(4, 12, 1, bias=False), conv(12, 12, 3, padding=1, groups=12), conv(12, 6, 1)
    one = merge(merge(first, middle), last)
    assert (one.kernel_size, one.padding, one.groups) == ((3, 3), (1, 1), 1)
    assert_same(one, nn.Sequential(first, middle, last), 4, images)


def test_what_is_refused_is_wrong_on_the_ring_of_the_articles_sizes(images):
    """3x3 behind 3x3 at the sizes of a ResNet: 5x5, wrong on the outermost ring of pixels and only there."""
    first, second = conv(3, 6, 3, padding=1, bias=False), conv(6, 4, 3, padding=1)
    x = images(3, 9)
    wrong = (careless(first, second)(x) - second(first(x))).abs()
    assert wrong[..., 1:-1, 1:-1].max() < 1e-10
    for edge in (wrong[..., 0, :], wrong[..., -1, :], wrong[..., :, 0], wrong[..., :, -1]):
        assert edge.max() > 1e-2


def test_merge_reads_its_kernel_as_autograd_does():
    """An oracle without our formula: the kernel of a linear map is its Jacobian."""
    first, second = conv(2, 6, 3, 2, 1, groups=2), conv(6, 3, 1, groups=3)
    merged = merge(first, second)
    x = torch.zeros(1, 2, 7, 7, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: second(first(x))[0, :, 1, 1], x)[:, 0]  # [3, 2, 7, 7]
    torch.testing.assert_close(merged.weight, jacobian[:, :, 1:4, 1:4], rtol=1e-10, atol=1e-12)


def test_padding_and_size_are_looked_at_axis_by_axis(images):
    first, second = conv(3, 6, (1, 3), padding=(0, 1), bias=False), conv(6, 4, (3, 1), padding=(1, 0))
    assert_same(merge(first, second), nn.Sequential(first, second), 3, images)
    with pytest.raises(NotExact, match="padding"):
        merge(conv(3, 6, (3, 1), bias=False), second)


def test_a_larger_kernel_may_stand_before_padding_if_it_is_padded_fully(images):
    """A 3x3 with padding 2 gives a value wherever it sees a pixel; nothing of the image is left for the ring."""
    first, second = conv(3, 6, 3, padding=2, bias=False), conv(6, 4, 3, padding=1)
    assert_same(merge(first, second), nn.Sequential(first, second), 3, images)
    with pytest.raises(NotExact, match="bias before padding"):
        merge(conv(3, 6, 3, padding=2), second)


def test_a_merged_conv_is_frozen_if_any_part_was():
    first, second = conv(3, 6, 3), conv(6, 4, 1)
    assert all(p.requires_grad for p in merge(first, second).parameters())
    second.weight.requires_grad_(False)
    assert not any(p.requires_grad for p in merge(first, second).parameters())


@pytest.mark.parametrize("groups", [1, 4])
def test_merge_keeps_dtype_and_precision(groups):
    first, second = nn.Conv2d(4, 32, 3, padding=1, groups=groups), nn.Conv2d(32, 8, 1, groups=groups)
    merged = merge(first, second)
    assert merged.weight.dtype == torch.float32
    x = torch.randn(2, 4, 9, 9)
    torch.testing.assert_close(merged(x), second(first(x)), rtol=1e-4, atol=1e-5)


def test_nothing_is_shared_with_what_went_in():
    first, second, bn = conv(4, 4, 1), conv(4, 4, 1), nn.BatchNorm2d(4).double().eval()
    places = {t.data_ptr() for m in (first, second, bn) for t in m.state_dict().values()}
    for made in (merge(first, second), add(first, second), fold_bn(first, bn), bn_as_conv(bn), identity_conv(first)):
        assert not places & {t.data_ptr() for t in made.state_dict().values()}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, 1, 0), (3, 1, 1), (3, 2, 1), (5, 2, 0)])
def test_fold_bn_as_torch_does(kernel, stride, padding, bias, randomised):
    c, bn = conv(3, 5, kernel, stride, padding, bias=bias).eval(), randomised(nn.BatchNorm2d(5, eps=1e-3))
    folded, peer = fold_bn(c, bn), fuse_conv_bn_eval(c, bn)
    torch.testing.assert_close(folded.weight, peer.weight, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(folded.bias, peer.bias, rtol=1e-12, atol=1e-12)


@reproducible(250)
@given(pair=pairs("nothing"), eps=st.sampled_from([1e-6, 1e-5, 1e-3, 0.1]), affine=st.booleans(), height=SIDE, width=SIDE)
def test_fold_bn(pair, eps, affine, height, width):
    c, bn = pair.first, filled(nn.BatchNorm2d(pair.first.out_channels, eps=eps, affine=affine), eps)
    folded = fold_bn(c, bn)
    assert folded.groups == c.groups
    assert_equal(folded, nn.Sequential(c, bn), probes(c.in_channels, height, width))


@pytest.mark.parametrize("affine", [True, False])
def test_bn_as_conv(affine, images):
    bn = filled(nn.BatchNorm2d(4, affine=affine), affine)
    made = bn_as_conv(bn)
    assert (made.groups, made.kernel_size, made.weight.dtype) == (4, (1, 1), torch.float64)
    assert_same(made, bn, 4, images)
    assert bn_as_conv(nn.BatchNorm2d(4).eval()).weight.dtype == torch.float32
    after = conv(4, 6, 3)  # a BN before a conv: exact while nothing is padded between them
    assert_same(merge(made, after), nn.Sequential(bn, after), 4, images)
    with pytest.raises(NotExact, match="bias before padding"):
        merge(made, conv(4, 6, 3, padding=1))


def test_identity_conv(images):
    c = conv(6, 6, 3, padding=1, groups=2)
    x = images(6, 5)
    assert torch.equal(identity_conv(c)(x), x)
    skipped = add(c, identity_conv(c))
    assert skipped.groups == 2
    assert (skipped(x) - (c(x) + x)).abs().max() < 1e-10
    assert all(p.requires_grad for p in skipped.parameters())
    assert not any(p.requires_grad for p in identity_conv(c.requires_grad_(False)).parameters())
    assert identity_conv(nn.Conv2d(3, 5, 3).half()).weight.dtype == torch.float16
    with pytest.raises(NotExact, match="stride differ"):
        add(conv(6, 6, 3, stride=2, padding=1), identity_conv(c))


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_the_three_branches_of_repvgg_are_one_conv(groups, images):
    three, one = conv(6, 6, 3, padding=1, groups=groups, bias=False), conv(6, 6, 1, groups=groups, bias=False)
    bns = [filled(nn.BatchNorm2d(6), i) for i in range(3)]
    made = add(add(fold_bn(three, bns[0]), fold_bn(one, bns[1])), bn_as_conv(bns[2]))
    assert (made.kernel_size, made.groups) == ((3, 3), groups)
    assert_same(made, Sum(nn.Sequential(three, bns[0]), nn.Sequential(one, bns[1]), bns[2]), 6, images)


@st.composite
def parallel(draw, centred):
    """Two parallel convs, one kernel centred in the other along every axis, or off along one at least; either may be the larger."""
    off = st.sampled_from([(0, 0)] if centred else [(1, 0), (0, 1), (1, 1)])  # kernel and padding have this much more than they should
    sizes = []
    for _ in range(2):
        k, p, margin, (extra_k, extra_p) = draw(st.integers(1, 4)), draw(st.integers(0, 2)), draw(st.integers(0, 2)), draw(off)
        off = off if centred else st.sampled_from([(0, 0), (1, 0), (0, 1)])
        sizes.append(draw(st.permutations([(k, p), (k + 2 * margin + extra_k, p + margin + extra_p)])))
    sizes = draw(st.permutations(sizes))
    g_a, g_b = draw(axes(1, 4))
    into, out = (math.lcm(g_a, g_b) * n for n in draw(axes(1, 2)))
    stride = draw(axes(1, 3))
    convs = []
    for i, groups in enumerate((g_a, g_b)):
        kernel, padding = zip(*(axis[i] for axis in sizes), strict=True)
        made = nn.Conv2d(into, out, kernel, stride, padding, groups=groups, bias=draw(st.booleans()))
        convs.append(filled(made, i, str(made)))
    return convs


@reproducible(400)
@given(convs=parallel(centred=True), height=st.integers(1, 6), width=st.integers(1, 6))
def test_add_is_exact_where_kernels_are_centred(convs, height, width):
    a, b = convs
    made = add(a, b)
    assert made.groups == most_groups(wiring(a) + wiring(b))
    assert_equal(made, Sum(a, b), probes(a.in_channels, height, width))


@reproducible(250)
@given(convs=parallel(centred=False))
def test_what_add_refuses_has_no_sum_at_some_image_size(convs):
    a, b = convs
    with pytest.raises(NotExact, match="not centred"):
        add(a, b)
    sides = [torch.zeros(1, a.in_channels, side, side, dtype=torch.float64) for side in range(12, 12 + max(a.stride))]
    assert any(a(x).shape != b(x).shape for x in sides)


def test_three_cross_shaped_branches_are_one_conv(images):
    """ACNet: 3x3 + 1x3 + 3x1."""
    square, flat, tall = conv(3, 4, 3, padding=1), conv(3, 4, (1, 3), padding=(0, 1)), conv(3, 4, (3, 1), padding=(1, 0))
    assert_same(add(add(flat, tall), square), Sum(square, flat, tall), 3, images)


def hooked(c):
    prune.random_unstructured(c, "weight", 0.5)
    return c


CHECKED = {
    "merge": lambda c: merge(c, conv(4, 4, 1)),
    "merge, second": lambda c: merge(conv(4, 4, 1), c),
    "add": lambda c: add(c, conv(4, 4, 3)),
    "identity_conv": identity_conv,
}


@pytest.mark.parametrize("move", CHECKED)
@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: nn.Linear(4, 4), "a plain Conv2d is needed, not Linear"),
        (lambda: nn.ConvTranspose2d(4, 4, 3).double(), "a plain Conv2d is needed, not ConvTranspose2d"),
        (lambda: conv(4, 4, 3, dilation=2), r"dilation=\(2, 2\) is not supported"),
        (lambda: conv(4, 4, 3, padding=1, padding_mode="circular"), "padding_mode='circular' is not supported"),
        (lambda: conv(4, 4, 3, padding="same"), "padding='same' is not supported"),
        (lambda: hooked(conv(4, 4, 3)), "forward hooks"),
        (lambda: nn.Conv2d(4, 4, 3, dtype=torch.complex128), "dtype"),
        (lambda: conv(4, 4, 3, device="meta"), "device, not have cpu and meta|no values"),
        (lambda: nn.Conv2d(4, 4, 3, dtype=torch.float16), "dtype, not have torch.float16 and torch.float64|^identity_conv"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(move, make, rule):
    made = make()
    if move == "identity_conv" and isinstance(made, nn.Conv2d) and made.weight.dtype == torch.float16:
        return  # alone, a half is as good as any other
    with pytest.raises(NotExact, match=rule) as refusal:
        CHECKED[move](made)
    assert str(refusal.value).startswith(move.split(",")[0])
    assert "\n" not in str(refusal.value)


class BNReLU(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()


class Named(nn.BatchNorm2d):
    """Another class, the same function."""


def patched(c):
    c._conv_forward = lambda x, weight, bias: x
    return c


def large(bn):
    nn.init.constant_(bn.weight, 5e4)
    bn.running_var.fill_(1e-4)
    bn.eps = 0
    return bn


def filled_with(c, value):
    for p in c.parameters():
        nn.init.constant_(p, value)
    return c


LAYERS = [
    (nn.Conv1d, nn.BatchNorm1d, dict(kernel_size=3, padding="same", dilation=2)),
    (nn.Conv1d, nn.SyncBatchNorm, dict(kernel_size=3, padding=2, padding_mode="circular", bias=False)),
    (nn.Conv2d, nn.BatchNorm2d, dict(kernel_size=3, padding=2, dilation=2, groups=2)),
    (nn.Conv2d, Named, dict(kernel_size=(2, 3), padding=1, padding_mode="reflect", stride=2)),
    (nn.Conv2d, nn.SyncBatchNorm, dict(kernel_size=3, padding="same")),
    (nn.Conv3d, nn.BatchNorm3d, dict(kernel_size=2, groups=2, bias=False)),
    (nn.ConvTranspose1d, nn.BatchNorm1d, dict(kernel_size=3, stride=2)),
    (nn.ConvTranspose2d, nn.BatchNorm2d, dict(kernel_size=3, stride=2, padding=1, output_padding=1, groups=2, bias=False)),
    (nn.ConvTranspose3d, nn.BatchNorm3d, dict(kernel_size=2, groups=2)),
]


@pytest.mark.parametrize(("conv_kind", "bn_kind", "options"), LAYERS)
@torch.no_grad()
def test_a_bn_is_folded_into_any_conv(conv_kind, bn_kind, options):
    layers = nn.Sequential(conv_kind(4, 6, **options), bn_kind(6))
    filled(layers, str(layers))
    folded, x = fold_bn(*layers), torch.randn(2, 4, *[7] * len(layers[0].kernel_size), dtype=torch.float64)
    assert type(folded) is conv_kind
    assert (folded(x) - layers(x)).abs().max() < 1e-10 < (folded(x) - layers[0](x)).abs().max()
    frozen = fold_bn(layers[0], layers[1].requires_grad_(False))
    assert [(name, p.requires_grad) for name, p in frozen.named_parameters()] == [("weight", False), ("bias", False)]


def bn(features=4, **kwargs):
    return nn.BatchNorm2d(features, **kwargs).double().eval()


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: fold_bn(nn.Linear(4, 4), bn()), "fold_bn: a plain Conv1d, Conv2d, Conv3d or ConvTranspose is needed, not Linear"),
        (lambda: fold_bn(hooked(conv(3, 4, 3)), bn()), "fold_bn: a Conv2d with forward hooks"),
        (lambda: fold_bn(patched(conv(3, 4, 3)), bn()), "fold_bn: a Conv2d with a _conv_forward of its own"),
        (lambda: fold_bn(conv(3, 4, 3), BNReLU(4).double().eval()), "fold_bn: a BNReLU has a forward of its own"),
        (lambda: bn_as_conv(BNReLU(4).double().eval()), "bn_as_conv: a BNReLU has a forward of its own"),
        (lambda: fold_bn(conv(3, 4, 3), nn.BatchNorm1d(4).double().eval()), "a BatchNorm2d is needed, not BatchNorm1d"),
        (lambda: fold_bn(conv(3, 4, 3).half(), large(bn().half())), r"would hold a [\de+.]+, beyond torch\.float16"),
        (lambda: merge(*(filled_with(conv(1, 1, 1).half(), 300) for _ in range(2))), r"would hold a 9e\+04, beyond torch\.float16"),
        (lambda: fold_bn(conv(3, 4, 3), bn().train()), "fold_bn: the BatchNorm is in train mode"),
        (lambda: fold_bn(conv(3, 4, 3), bn(track_running_stats=False)), "fold_bn: .* no running statistics"),
        (lambda: fold_bn(conv(3, 4, 3), bn(5)), "4 channels.*takes 5"),
        (lambda: fold_bn(conv(3, 4, 3), nn.Identity()), "a BatchNorm2d is needed, not Identity"),
        (lambda: fold_bn(conv(3, 4, 3), bn().to("meta")), "device, not have cpu and meta"),
        (lambda: fold_bn(conv(3, 4, 3), bn().float()), "dtype, not have torch.float32 and torch.float64"),
        (lambda: bn_as_conv(bn().train()), "bn_as_conv: the BatchNorm is in train mode"),
        (lambda: bn_as_conv(bn(track_running_stats=False)), "bn_as_conv: .* no running statistics"),
        (lambda: bn_as_conv(bn().to("meta")), "no values"),
        (lambda: bn_as_conv(nn.BatchNorm1d(4)), "a BatchNorm2d is needed, not BatchNorm1d"),
        (lambda: merge(conv(3, 4, 3), conv(5, 4, 1)), "4 channels.*takes 5"),
        (lambda: merge(conv(3, 4, 3), conv(4, 4, 1).to("meta")), "merge: the parts must agree in device, not have cpu and meta"),
        (lambda: add(conv(3, 4, 3, padding=1), conv(3, 4, 1, stride=2)), "stride differ"),
        (lambda: add(conv(3, 4, 3, padding=1), conv(4, 4, 1)), "in_channels differ, 3 and 4"),
        (lambda: add(conv(3, 4, 3, padding=1), conv(3, 5, 1)), "out_channels differ"),
        (lambda: add(conv(3, 4, 3, padding=1), conv(3, 4, 2)), "not centred"),
        (lambda: add(conv(3, 4, 3, padding=1), conv(3, 4, 1, padding=1)), "not centred"),
    ],
)
def test_refusals_name_the_rule(make, rule):
    with pytest.raises(NotExact, match=rule):
        make()


def test_fold_bn_without_a_bias_of_its_own(images):
    bn = filled(nn.BatchNorm2d(4, bias=False), "no bias")
    c = conv(2, 4, 3)
    assert_same(fold_bn(c, bn), nn.Sequential(c, bn), 2, images)
