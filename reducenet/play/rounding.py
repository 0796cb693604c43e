"""How a machine rounds: two processors with the same instructions can differ in the last digit; sums are cut by caches and maker."""

import hashlib

import torch
from torch import nn

BATCH, CLASSES = 128, 10
# Layers as the studies have them: channels in and out, kernel, stride, groups, pixels a side.
CONVS = ((1, 8, 3, 2, 1, 28), (8, 8, 3, 1, 1, 14), (8, 32, 3, 1, 1, 14), (32, 8, 1, 1, 1, 14), (8, 16, 3, 2, 1, 14), (16, 16, 3, 1, 2, 14))


def rounding() -> str:
    """Eight digits of what torch computes here, forward and backward, on one thread: the same on machines that round alike."""
    digest, threads = hashlib.sha256(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for layer, x in _layers():
            out = layer(x.requires_grad_())
            out.square().mean().backward()
            for tensor in (out, x.grad, *(p.grad for p in layer.parameters())):
                digest.update(tensor.detach().contiguous().numpy().tobytes())
    finally:
        torch.set_num_threads(threads)
    return digest.hexdigest()[:8]


def _layers():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for wide, out, kernel, stride, groups, pixels in CONVS:
            conv = nn.Conv2d(wide, out, kernel, stride, kernel // 2, groups=groups, bias=False)
            layer = nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU()).to(memory_format=torch.channels_last)
            yield layer, torch.randn(BATCH, wide, pixels, pixels).to(memory_format=torch.channels_last)
        yield nn.Linear(CONVS[-1][1], CLASSES), torch.randn(BATCH, CONVS[-1][1])
