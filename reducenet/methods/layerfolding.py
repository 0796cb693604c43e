"""Layer Folding: every activation learns how linear it wants to be, a penalty pulls it there, and the end is a decision.

    learn_lam -> fit(loss = "layer-folding") -> snap -> fit -> fuse

Source: Dror et al. 2021, "Layer Folding: Neural Network Depth Reduction using Activation Linearization".
"""

import torch
from torch import Tensor, nn

from reducenet.data.tensors import Data
from reducenet.learn.losses import cross_entropy
from reducenet.methods.removal import resolved
from reducenet.moves.surgery import chosen, replace
from reducenet.nets.activation import LambdaReLU, LearnedReLU
from reducenet.words import AtLeast0, MoveError, Names, Part, loss, move, search


@move
def learn_lam(net: nn.Module, at: Names = "*") -> nn.Module:
    """`learn_lam(net)(x) == net(x)`: every LambdaReLU that matches `at` becomes a LearnedReLU that starts at its lam.

    Raises `MoveError` where no LambdaReLU with a fixed lam matches. Source: Dror et al. 2021.
    """

    def fixed(_: str, module: nn.Module) -> bool:
        return isinstance(module, LambdaReLU) and not isinstance(module, LearnedReLU)

    def learned(_: str, act: LambdaReLU) -> LearnedReLU:
        return LearnedReLU(act.lam.item()).to(act.lam).train(act.training)

    return replace(net, fixed, learned, at, "learn_lam", "LambdaReLU with a fixed lam")


def lam_penalty(net: nn.Module) -> Tensor:
    """`sum |1 - lam^2|` over the learned lams, a number without unit: 1 for each ReLU, 0 for each identity.

    Its gradient -2 lam (0 <= lam < 1) is 0 at the ReLU and grows with lam: the penalty alone never moves a lam that starts at 0, and once
    the task has, it pulls the harder the nearer to linear. So lams end near 0 or near 1, with little between.
    Raises `MoveError` where nothing is learned. Source: Dror et al. 2021.
    """
    return sum((1 - act.lam**2).abs() for act in _learned("lam_penalty", net).values())


@loss("layer-folding")
def layer_folding(lam_weight: AtLeast0 = 0.25):
    """The loss `CE(z, y) + lam_weight * lam_penalty(net)`, every learned lam put back into [0, 1] before.

    `lam_weight` is a number without unit, 0.25 in the published code. The last step is not projected, but `fit` takes it at rate 0.
    Source: Dror et al. 2021.
    """

    def penalised(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        keep_in_range(net)
        value, logits = cross_entropy(net, x, y)
        return value + lam_weight * lam_penalty(net), logits

    return penalised


@torch.no_grad()
def keep_in_range(net: nn.Module) -> None:
    """Each learned lam is put back into [0, 1], if the step before led out of it.

    The projection is not part of the function. A clamp in the forward pass would be, and its gradient is 0 outside [0, 1] and, in torch
    2.14, at both ends: a lam that starts at 0 would never learn, and one pushed out would never come back.
    """
    for act in _learned("keep_in_range", net).values():
        act.lam.clamp_(0, 1)


@search
def snap(net: nn.Module, data: Data | None = None, *, above: Part = 0.9, seed: int = 0, device: str = "cpu") -> list[dict]:
    """The moves that end the learning: what has lam >= `above` becomes the identity, the other learned ones a ReLU.

    A lam that is neither 0 nor 1 changes the function when it snaps: by `difference(net, snapped, data, data.val)`, which the next
    `fit` has to make up for. With the moves comes the `pad_first` that a merge may need; the published code merges without, and is wrong
    on the ring. `data`, `seed` and `device` are not read: the lams decide.
    Raises `MoveError` where nothing is learned. Source: Dror et al. 2021.
    """
    found = _learned("snap", net)
    return resolved(net, [name for name, act in found.items() if act.lam >= above], at=list(found))


def _learned(what: str, net: nn.Module) -> dict[str, LearnedReLU]:
    found = chosen(net, LearnedReLU)
    if not found:
        kinds = ", ".join(chosen(net, LambdaReLU)) or "none"
        raise MoveError(f"{what}: no LearnedReLU here; learn_lam makes them of LambdaReLUs (there are: {kinds})")
    return found
