"""The oracle is the definition: run both layers, everywhere, ring and interior apart, on maps larger and smaller than the kernel."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from reducenet.fuse import NotExact, add, fold_bn, merge

SIZES = (1, 2, 5, 8, 9)


def conv(*args, **kwargs):
    return nn.Conv2d(*args, **kwargs).double()


def assert_same(one, two, channels, images):
    for size in SIZES:
        x = images(channels, size, size + 1)
        try:
            expected = two(x)
        except RuntimeError:  # the kernel does not fit into so small a map
            continue
        found = one(x)
        assert found.shape == expected.shape
        assert (found - expected).abs().max() < 1e-10


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, 1, 0), (3, 1, 1), (3, 2, 1), (5, 2, 0)])
def test_fold_bn(kernel, stride, padding, bias, randomised, images):
    c, bn = conv(3, 5, kernel, stride, padding, bias=bias), randomised(nn.BatchNorm2d(5, eps=1e-3))
    folded = fold_bn(c, bn)
    assert_same(folded, nn.Sequential(c, bn), 3, images)
    peer = fuse_conv_bn_eval(c.eval(), bn)
    torch.testing.assert_close(folded.weight, peer.weight)
    torch.testing.assert_close(folded.bias, peer.bias)


def test_fold_bn_without_affine(randomised, images):
    bn = nn.BatchNorm2d(4, affine=False).double().eval()
    bn.running_mean.uniform_(-1, 1)
    bn.running_var.uniform_(0.5, 2)
    c = conv(2, 4, 3)
    assert_same(fold_bn(c, bn), nn.Sequential(c, bn), 2, images)


def exact(k1, p1, k2, p2, bias) -> bool:
    """The theorem, said once more: no padding on the second conv, or a 1x1 without bias before it."""
    return p2 == 0 or (k1 == 1 and not bias)


CASES = list(itertools.product((1, 3), (1, 2), (0, 1), (False, True), (1, 2, 3), (1, 2), (0, 1)))


@pytest.mark.parametrize(("k1", "s1", "p1", "bias", "k2", "s2", "p2"), CASES)
def test_merge_is_exact_or_refused(k1, s1, p1, bias, k2, s2, p2, images):
    first, second = conv(3, 6, k1, s1, p1, bias=bias), conv(6, 4, k2, s2, p2)
    if exact(k1, p1, k2, p2, bias):
        assert_same(merge(first, second), nn.Sequential(first, second), 3, images)
    else:
        with pytest.raises(NotExact, match="bias before padding|padding .* on the second conv"):
            merge(first, second)


def test_what_is_refused_is_wrong_on_the_ring_and_only_there(images):
    """Both directions of the theorem: drop the second conv's padding rule and the border, only the border, is wrong."""
    first, second = conv(3, 6, 3, padding=1, bias=False), conv(6, 4, 3, padding=1)
    inner = conv(6, 4, 3)
    inner.load_state_dict(second.state_dict())
    naive = merge(first, inner)  # 5x5, then padded by 2 as a careless merge would
    naive.padding = (2, 2)
    x = images(3, 9)
    wrong = (naive(x) - second(first(x))).abs()
    assert wrong[..., 1:-1, 1:-1].max() < 1e-10
    ring = wrong.clone()
    ring[..., 1:-1, 1:-1] = 0
    assert ring.max() > 1e-2


def test_merge_reads_its_kernel_as_autograd_does():
    """An oracle without our formula: the kernel of a linear map is its Jacobian."""
    first, second = conv(2, 5, 3, 2, 1), conv(5, 3, 1)
    merged = merge(first, second)
    x = torch.zeros(1, 2, 7, 7, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: second(first(x))[0, :, 1, 1], x)[:, 0]  # [3, 2, 7, 7]
    torch.testing.assert_close(merged.weight, jacobian[:, :, 1:4, 1:4], rtol=1e-10, atol=1e-12)


def test_padding_and_size_are_looked_at_axis_by_axis(images):
    first, second = conv(3, 6, (1, 3), padding=(0, 1), bias=False), conv(6, 4, (3, 1), padding=(1, 0))
    assert_same(merge(first, second), nn.Sequential(first, second), 3, images)
    with pytest.raises(NotExact, match="padding"):
        merge(conv(3, 6, (3, 1), bias=False), second)


def test_a_merged_conv_is_frozen_if_any_part_was():
    first, second = conv(3, 6, 3), conv(6, 4, 1)
    assert all(p.requires_grad for p in merge(first, second).parameters())
    second.weight.requires_grad_(False)
    assert not any(p.requires_grad for p in merge(first, second).parameters())


def test_merge_keeps_dtype_and_precision():
    first, second = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 8, 1)
    merged = merge(first, second)
    assert merged.weight.dtype == torch.float32
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(merged(x), second(first(x)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("a", "b"), [((3, 1), (1, 0)), ((1, 0), (3, 1)), ((5, 2), (3, 1)), ((3, 0), (3, 0)), ((5, 1), (3, 0))])
@pytest.mark.parametrize("stride", [1, 2])
def test_add(a, b, stride, images):
    one, two = conv(3, 4, a[0], stride, a[1]), conv(3, 4, b[0], stride, b[1], bias=False)

    class Parallel(nn.Module):
        def forward(self, x):
            return one(x) + two(x)

    assert_same(add(one, two), Parallel(), 3, images)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: fold_bn(conv(3, 4, 3), nn.BatchNorm2d(4)), "train mode"),
        (lambda: fold_bn(conv(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False).eval()), "no running statistics"),
        (lambda: fold_bn(conv(3, 4, 3), nn.BatchNorm2d(5).eval()), "4 channels.*takes 5"),
        (lambda: fold_bn(conv(3, 4, 3), nn.Identity()), "a BatchNorm2d is needed, not Identity"),
        (lambda: fold_bn(nn.Linear(3, 4), nn.BatchNorm2d(4).eval()), "plain Conv2d"),
        (lambda: merge(conv(3, 4, 3), conv(5, 4, 1)), "4 channels.*takes 5"),
        (lambda: merge(conv(4, 4, 3, groups=2), conv(4, 4, 1)), "groups=2"),
        (lambda: merge(conv(4, 4, 3, dilation=2), conv(4, 4, 1)), "dilation"),
        (lambda: merge(conv(4, 4, 3, padding=1, padding_mode="circular"), conv(4, 4, 1)), "padding_mode"),
        (lambda: merge(conv(4, 4, 3, padding="same"), conv(4, 4, 1)), "padding='same'"),
        (lambda: add(conv(3, 4, 3, padding=1), conv(3, 4, 1, stride=2)), "stride differ"),
        (lambda: add(conv(3, 4, 3, padding=1), conv(3, 4, 2)), "not centred"),
        (lambda: add(conv(3, 4, 3, padding=1), conv(3, 4, 1, padding=1)), "not centred"),
    ],
)
def test_refusals_name_the_rule(make, rule):
    with pytest.raises(NotExact, match=rule):
        make()
