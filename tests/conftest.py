"""What tests share: networks with randomised BN statistics, so that a forgotten BN term cannot hide behind fresh ones."""

import pytest
import torch
from torch import nn

from reducenet.seeding import generator


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def randomised():
    """`randomised(net)`: the net in float64 and eval mode, every BN with statistics and parameters far from fresh."""

    def randomise(net: nn.Module, *key) -> nn.Module:
        net = net.double().eval()
        for name, bn in net.named_modules():
            if isinstance(bn, nn.BatchNorm2d):
                draw = generator("randomised", name, *key)

                def uniform(like, low, high, draw=draw):
                    return low + (high - low) * torch.rand(like.shape, generator=draw, dtype=torch.float64)

                bn.running_mean.copy_(uniform(bn.running_mean, -1, 1))
                bn.running_var.copy_(uniform(bn.running_var, 0.3, 3))
                with torch.no_grad():
                    bn.weight.copy_(uniform(bn.weight, 0.5, 2))
                    bn.bias.copy_(uniform(bn.bias, -1, 1))
        return net

    return randomise


@pytest.fixture
def images():
    """`images(channels, height, width)`: three random float64 images."""

    def make(channels: int, height: int, width: int | None = None) -> torch.Tensor:
        return torch.randn(3, channels, height, width or height, dtype=torch.float64, generator=generator("images"))

    return make
