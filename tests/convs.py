"""Random convs and pairs of them, and what it means that two are equal: what the tests of the algebra and of its repairs share.

A pair of convs is an affine map, so it is known by its answers to the zero image and to every unit impulse: equal there is equal.
"""

import copy
import math
from typing import NamedTuple

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn

from reducenet.algebra.exact import merge
from reducenet.nets.seeding import generator

SIZES = (1, 2, 5, 8, 9)
SIDE = st.integers(1, 8)  # pixels: many kernels here do not fit into 1


def reproducible(examples):
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None)


def conv(*args, **kwargs):
    return nn.Conv2d(*args, **kwargs).double()


def probes(channels, height, width):
    """The zero image and every unit impulse: [1 + n, channels, height, width], n = channels * height * width."""
    n = channels * height * width
    return torch.cat([torch.zeros(1, n), torch.eye(n)]).double().view(-1, channels, height, width)


def answer(f, x):
    """`f(x)`, or None where a kernel does not fit into so small a map."""
    try:
        return f(x).detach()
    except RuntimeError as error:
        if "Kernel size can't be greater than actual input size" in str(error):
            return None
        raise


def assert_equal(one, two, x):
    found, expected = answer(one, x), answer(two, x)
    assert (found is None) == (expected is None)
    if expected is not None:
        assert found.shape == expected.shape
        assert (found - expected).abs().max() < 1e-10


def assert_same(one, two, channels, images):
    for size in SIZES:
        assert_equal(one, two, images(channels, size, size + 1))


class Sum(nn.Module):
    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return sum(branch(x) for branch in self.branches)


# Random convs. Which of the four cases a pair is comes from how it is made, not from asking the code.


def axes(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


def filled(module, *key):
    """Every parameter and statistic far from fresh, from `key`, in float64 and eval mode."""
    draw = generator("filled", *key)
    for name, tensor in module.double().eval().state_dict().items():
        if tensor.is_floating_point():
            tensor.normal_(generator=draw)
            if name.endswith("running_var"):
                tensor.abs_().add_(0.1)
    return module


class Pair(NamedTuple):
    first: nn.Conv2d
    second: nn.Conv2d
    open: tuple[bool, bool]  # by axis: the first lets pixels of the image onto the ring of the second

    def __call__(self, x):
        return self.second(self.first(x))


@st.composite
def pairs(draw, on_ring):
    """Two random convs with this on the ring: "nothing", "zeros", "bias" or "pixels"."""
    padded = {"nothing": ("free",), "pixels": ("free", "covered", "open")}.get(on_ring, ("free", "covered"))
    needed = {"nothing": "free", "pixels": "open"}.get(on_ring, "covered")
    kinds = draw(st.permutations([needed, draw(st.sampled_from(padded))]))
    kernel, padding, outer = [], [], []
    for kind in kinds:
        k = draw(st.integers(2, 4) if kind == "open" else st.integers(1, 4) if kind == "free" else st.sampled_from([1, 1, 2, 3]))
        kernel.append(k)
        padding.append(draw(st.integers(0, k - 2) if kind == "open" else st.integers(0 if kind == "free" else k - 1, 3)))
        outer.append(0 if kind == "free" else draw(st.integers(1, 3)))
    g1, g2 = draw(axes(1, 4))
    inner = math.lcm(g1, g2) * draw(st.integers(1, 2))
    bias = on_ring == "bias" or (on_ring != "zeros" and draw(st.booleans()))
    outside, inside, stride = draw(axes(1, 2)), draw(axes(1, 3)), (draw(axes(1, 3)), draw(axes(1, 3)))
    first = nn.Conv2d(g1 * outside[0], inner, kernel, stride[0], padding, groups=g1, bias=bias)
    second = nn.Conv2d(inner, g2 * outside[1], inside, stride[1], outer, groups=g2, bias=draw(st.booleans()))
    return Pair(filled(first, str(first)), filled(second, str(first), str(second)), tuple(kind == "open" for kind in kinds))


def witness(pair):
    """A size of image at which a pair with pixels or a bias on the ring is wrong if that is ignored.

    Along an axis whose first conv lets pixels through, one at which the first, with one step more, would still read the last pixel,
    and the second has its last tap on that step. Elsewhere, any size at which some output reads some pixel whatever the strides.
    """
    return [next(side for side in range(24, 60) if _is_witness(pair, axis, side)) for axis in (0, 1)]


def _is_witness(pair, axis, side):
    (k1, s1, p1), (k2, s2, p2) = ((c.kernel_size[axis], c.stride[axis], c.padding[axis]) for c in pair[:2])
    steps, left = divmod(side + 2 * p1 - k1, s1)
    return not pair.open[axis] or (left == s1 - 1 and (steps + 1 + p2 - (k2 - 1)) % s2 == 0)


def touched(pair, height, width):
    """[H', W'], true on the ring: where the second conv reads its own padding."""
    lines = []
    for axis, side in enumerate((height, width)):
        (k1, s1, p1), (k2, s2, p2) = ((c.kernel_size[axis], c.stride[axis], c.padding[axis]) for c in pair[:2])
        inner = (side + 2 * p1 - k1) // s1 + 1
        starts = torch.arange((inner + 2 * p2 - k2) // s2 + 1) * s2 - p2
        lines.append((starts < 0) | (starts + k2 > inner))
    return lines[0][:, None] | lines[1][None, :]


def careless(first, second):
    """What a merge that ignores the ring would give."""
    unpadded = copy.deepcopy(second)
    unpadded.padding = (0, 0)
    made = merge(first, unpadded)
    made.padding = tuple(p + q * s for p, q, s in zip(first.padding, second.padding, first.stride, strict=True))
    return made


def assert_differ_on_the_ring_alone(one, pair):
    height, width = witness(pair)
    x = torch.randn(2, pair.first.in_channels, height, width, dtype=torch.float64, generator=generator("witness", str(pair.first)))
    wrong, on_ring = (one(x) - pair(x)).abs().amax((0, 1)), touched(pair, height, width)
    assert wrong[on_ring].max() > 1e-6
    assert not (wrong[~on_ring] >= 1e-10).any()
