"""LambdaReLU, the activation that slides from ReLU to identity, and the schedules it slides on."""

import math

import torch
from torch import Tensor, nn


class LambdaReLU(nn.Module):
    """`act(x) == lam * x + (1 - lam) * relu(x)`: lam 0 is ReLU, lam 1 is the identity, both exactly, for finite x.

    The input is never changed (the article's first code wrote into it, and its "linear" nets stayed ReLU nets).
    `lam` is a buffer, a number without unit in [0, 1]; it is saved with the network and not learned.
    Source: VanillaNet's deep training, and the article's section "ReduceNet, corrected".

    >>> LambdaReLU(0.5)(torch.tensor([-2.0, 3.0]))
    tensor([-1.,  3.])
    """

    def __init__(self, lam: float = 0.0):
        super().__init__()
        self.register_buffer("lam", torch.tensor(float(lam)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.lam * x)

    def extra_repr(self) -> str:
        return f"lam={self.lam.item():g}"


class LearnedReLU(LambdaReLU):
    """A LambdaReLU that learns its `lam`, a parameter without dimension: the network itself chooses what becomes linear.

    Source: Layer Folding, Dror et al. 2021.
    """

    def __init__(self, lam: float = 0.0):
        nn.Module.__init__(self)
        self.lam = nn.Parameter(torch.tensor(float(lam)))


def linear(progress: float) -> float:
    """`linear(p) == p`."""
    return progress


def half_cosine(progress: float) -> float:
    """`half_cosine(p) == (1 - cos(pi p)) / 2`, from 0 to 1."""
    return (1 - math.cos(math.pi * progress)) / 2


def hard(progress: float) -> float:
    """0 until the end of the slide, then 1: the ReLU is removed at one stroke."""
    return float(progress >= 1)


SLIDES = {"linear": linear, "half-cosine": half_cosine, "hard": hard}


def slide(schedule: str = "linear", until: float = 1.0):
    """A hook for `fit`: at each step every LambdaReLU gets `lam = schedule(progress / until)`, and 1 from `until` on; learned ones do not.

    `progress` is the fraction of training done, 0 at the first step and 1 at the last; `until` a fraction in (0, 1].
    """
    if schedule not in SLIDES:
        raise ValueError(f"unknown slide {schedule!r}; known: {', '.join(SLIDES)}")
    if not 0 < until <= 1:
        raise ValueError(f"the slide must end within (0, 1] of training, not at {until}")

    def hook(net: nn.Module, progress: float) -> None:
        sliding = [module for module in net.modules() if isinstance(module, LambdaReLU) and not isinstance(module, LearnedReLU)]
        if not sliding:
            raise ValueError("slide: the network has no LambdaReLU whose lam could move (loosen makes them of ReLUs)")
        for module in sliding:
            module.lam.fill_(SLIDES[schedule](min(progress / until, 1.0)))

    return hook
