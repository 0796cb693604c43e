"""BN statistics estimated anew for a network whose weights or lam have changed under them."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from reducenet.data.tensors import Data
from reducenet.learn.device import device_for
from reducenet.moves.surgery import replace
from reducenet.nets.layers import Still
from reducenet.nets.seeding import generator
from reducenet.words import MoveError, Positive, tune


@tune
def recalibrate(
    net: nn.Module, data: Data, *, images: Positive = 4000, batch: Positive = 200, seed: int = 0, device: str = "cpu"
) -> nn.Module:
    """Every BN's statistics become `mean over batches of (batch mean, unbiased batch variance)` in train mode; nothing else changes.

    The batches are training images without augmentation, chosen and ordered by (seed, "recalibrate"): at most `images` of them, whole
    batches only, so that every image counts the same. Statistics that `freeze` froze stay. It is the control for "the BNs were
    stale", and what follows a loss that shows a block other maps than it will see.
    Raises `MoveError` where no BN may move or a batch has no variance, `ValueError` where the training images do not fill one batch.
    Source: Izmailov et al. 2018, SWA, section 3.2, whose code in torch does it; slimmable networks.
    """
    moving = [m for m in net.modules() if _is_batch_norm(m) and not isinstance(m, Still)]
    if not moving:
        raise MoveError("recalibrate: no BatchNorm whose statistics may move; they are folded or frozen, or there never was one")
    count = min(images, len(data.train.images)) // batch * batch
    if not count:
        raise ValueError(f"recalibrate: {min(images, len(data.train.images))} images do not fill one batch of {batch}")
    place, home, training = device_for(device), next(net.parameters()).device, {name: m.training for name, m in net.named_modules()}
    net = replace(net, lambda _, m: isinstance(m, Still) and isinstance(m, _BatchNorm), lambda _, bn: _Hidden(bn.to(place))).to(place)
    like = next(net.parameters())
    chosen = torch.randperm(len(data.train.images), generator=generator(seed, "recalibrate"))[:count]
    try:
        update_bn((data.normalise(data.train.images[part]).to(like) for part in chosen.split(batch)), net)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise MoveError(
            f"recalibrate: at batch = {batch} a BatchNorm sees one value a channel, which has no variance; take 2 or more"
        ) from error
    net = replace(net, _Hidden, lambda _, hidden: hidden.bn[0])
    for name, module in net.named_modules():
        module.training = training[name]
    return net.to(home)


def _is_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.track_running_stats


class _Hidden(nn.Module):
    """A frozen BN out of sight of `update_bn`, which would reset it."""

    def __init__(self, bn: nn.Module):
        super().__init__()
        self.bn = (bn,)  # in a tuple, so that it is no submodule

    def forward(self, x: Tensor) -> Tensor:
        return self.bn[0](x)
