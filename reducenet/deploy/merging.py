"""The rule that makes one conv of a linear run of them, where that costs no more."""

from functools import reduce
from math import gcd, prod

from torch import fx, nn

from reducenet.algebra.exact import NotExact, check_pair, merge, ring
from reducenet.deploy.trace import Rewriting


def merge_run(net: Rewriting, node: fx.Node) -> bool:
    """conv -> conv, conv -> conv -> conv, ...: the shortest run that ends here and is one conv at no more MACs.

    Three may be cheap where two are dear: of conv1-depthwise conv3-conv1 the first two make a large dense conv3, all three a small one.
    """
    run, convs = [node], [net.own(node, nn.Conv2d)]
    while convs[0] is not None and len((before := run[0].args[0]).users) == 1 and net.own(before, nn.Conv2d) is not None:
        run, convs = [before, *run], [net.own(before, nn.Conv2d), *convs]
        try:
            check_pair("merge", *convs[:2])
            now, then = _macs(convs)
            if then <= now or net.dearer or ring(*convs[:2]) not in ("nothing", "zeros"):
                net.replace("merge", run[0], reduce(merge, convs), run[1:])
                return True
        except NotExact as reason:
            net.leave(*run[:2], why=str(reason))
            return False
        if len(run) == 2:
            net.leave(*run, why=f"merge: would raise the MACs per output pixel from {now:,} to {then:,}")
    return False


def _macs(convs: list[nn.Conv2d]) -> tuple[int, int]:
    """MACs for each pixel that a run of convs puts out: as it is, and as one conv."""
    now, pixels = 0, 1
    for conv in reversed(convs):
        now, pixels = now + conv.weight.numel() * pixels, pixels * prod(conv.stride)
    taps = 1
    for axis in (0, 1):
        size, stride = 1, 1
        for conv in convs:
            size, stride = size + (conv.kernel_size[axis] - 1) * stride, stride * conv.stride[axis]
        taps *= size
    return now, taps * convs[0].in_channels * convs[-1].out_channels // gcd(*(conv.groups for conv in convs))
