"""Layer Folding: every activation learns how linear it wants to be, a penalty pulls it there, and the end is a decision.

    learn_lam -> fit(lam_weight = w) -> snap -> fit -> fuse

Source: Dror et al. 2021, "Layer Folding: Neural Network Depth Reduction using Activation Linearization".
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from reducenet.activation import LambdaReLU, LearnedReLU
from reducenet.data import Data
from reducenet.moves import MoveError, matching
from reducenet.rivals.removal import resolved


def learn_lam(net: nn.Module, at: str | list[str] = "*") -> nn.Module:
    """`learn_lam(net)(x) == net(x)`: every LambdaReLU that matches `at` becomes a LearnedReLU that starts at its lam.

    Raises `MoveError` where no LambdaReLU with a fixed lam matches. Source: Dror et al. 2021.
    """
    found = {name: m for name, m in net.named_modules() if isinstance(m, LambdaReLU) and not isinstance(m, LearnedReLU)}
    chosen = matching("learn_lam", found, at, "LambdaReLU with a fixed lam")
    net = copy.deepcopy(net)
    for name in chosen:
        fixed = found[name]
        net.set_submodule(name, LearnedReLU(fixed.lam.item()).to(fixed.lam).train(fixed.training))
    return net


def lam_penalty(net: nn.Module) -> Tensor:
    """`sum |1 - lam^2|` over the learned lams, a number without unit: 1 for each ReLU, 0 for each identity.

    Its gradient -2 lam (0 <= lam < 1) is 0 at the ReLU and grows with lam: the penalty alone never moves a lam that starts at 0, and once
    the task has, it pulls the harder the nearer to linear. So lams end near 0 or near 1, with little between.
    Raises `MoveError` where nothing is learned. Source: Dror et al. 2021.
    """
    return sum((1 - act.lam**2).abs() for act in _learned("lam_penalty", net).values())


def with_lam_penalty(loss: Callable, lam_weight: float) -> Callable:
    """The loss `loss + lam_weight * lam_penalty(net)` for `fit`, to go with the hook `keep_in_range`.

    `lam_weight` is at least 0, a number without unit (0.25 in the published code). Source: Dror et al. 2021.
    """
    if lam_weight < 0:
        raise ValueError(f"lam_weight must be at least 0, not {lam_weight}")

    def penalised(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        value, logits = loss(net, x, y)
        return value + lam_weight * lam_penalty(net), logits

    return penalised


@torch.no_grad()
def keep_in_range(net: nn.Module, progress: float) -> None:
    """A hook for `fit`: before every step each learned lam is put back into [0, 1], if the step before led out of it.

    The projection is not part of the function. A clamp in the forward pass would be, and its gradient is 0 outside [0, 1] and, in torch
    2.14, at both ends: a lam that starts at 0 would never learn, and one pushed out would never come back. The last step is not projected,
    but `fit` takes it at rate 0.
    """
    for act in _learned("keep_in_range", net).values():
        act.lam.clamp_(0, 1)


def snap(net: nn.Module, data: Data | None = None, *, above: float = 0.9, seed: int = 0, device: str = "cpu") -> list[dict]:
    """The moves that end the learning: what has lam >= `above` becomes the identity, the other learned ones a ReLU.

    A lam that is neither 0 nor 1 changes the function when it snaps: by `measure.difference(net, snapped, data, data.val)`, which the next
    `fit` has to make up for. With the moves comes the `pad_first` that a merge may need; the published code merges without, and is wrong
    on the ring. `data`, `seed` and `device` are not read: the lams decide.
    Raises `MoveError` where nothing is learned, or for `above` outside (0, 1]. Source: Dror et al. 2021.
    """
    if not 0 < above <= 1:
        raise MoveError(f"snap: above must be in (0, 1], not {above}")
    found = _learned("snap", net)
    return resolved(net, [name for name, act in found.items() if act.lam >= above], at=list(found))


def _learned(what: str, net: nn.Module) -> dict[str, LearnedReLU]:
    found = {name: m for name, m in net.named_modules() if isinstance(m, LearnedReLU)}
    if not found:
        kinds = ", ".join(name for name, m in net.named_modules() if isinstance(m, LambdaReLU)) or "none"
        raise MoveError(f"{what}: no LearnedReLU here; learn_lam makes them of LambdaReLUs (there are: {kinds})")
    return found
