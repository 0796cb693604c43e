"""What a network is worth: its logits, which images it gets right, its accuracy; and how far two networks are apart."""

import torch
from torch import Tensor, nn

from reducenet.data.tensors import Data, Split
from reducenet.moves.surgery import copied


@torch.no_grad()
def logits(net: nn.Module, data: Data, split: Split, chunk: int = 500) -> Tensor:
    """The logits of every image of `split`, [N, classes], in eval mode and in the dtype of the network."""
    net = in_eval(net)
    like = next(net.parameters())
    return torch.cat([net(data.normalise(part).to(like)) for part in split.images.split(chunk)])


def correct(net: nn.Module, data: Data, split: Split) -> Tensor:
    """Which images are classified correctly: bool [N]. Keep it, and two nets can be compared image by image."""
    return logits(net, data, split).argmax(1).cpu() == split.labels.cpu()


def accuracy(net: nn.Module, data: Data, split: Split) -> float:
    """Correct over all, in [0, 1]."""
    return correct(net, data, split).sum().item() / len(split.labels)


def difference(a: nn.Module, b: nn.Module, data: Data, split: Split) -> float:
    """`max |a(x) - b(x)|` over all logits of `split`, both nets in float64: the price of a move that calls itself exact."""
    a, b = (copied(net).cpu().double() for net in (a, b))  # not every device has float64
    return (logits(a, data, split) - logits(b, data, split)).abs().max().item()


def in_eval(net: nn.Module) -> nn.Module:
    """The network itself if all of it is in eval mode, else a copy that is: measuring changes nothing."""
    return copied(net).eval() if any(module.training for module in net.modules()) else net
