"""The side branch of LoRA distillation: a linear pair of convs beside a conv, trained for a while, then folded into it.

    attach(net)(x) == net(x)        at the start, whatever the options
    fold(attach(net))(x) == attach(net)(x)

Without BN or activation inside, the pair is trained in weight space: one conv with the summed kernel, at the cost of one. Everything else
needs the branch itself. Source: the article, "ReduceNet embraces LoRA"; LoRA for convs (LoCon); ExpandNets; ControlNet's zero convolutions.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from reducenet.algebra.exact import add, fold_bn, merge
from reducenet.algebra.plain import is_batch_norm
from reducenet.moves.surgery import replace
from reducenet.nets.activation import LambdaReLU
from reducenet.nets.seeding import generator
from reducenet.words import Literal, MoveError, Names, Positive, Share, move


class SideBranch(nn.Module):
    """The linear pair in weight space, as a parametrisation of the kernel beside it: `W -> W + pair`.

    `first` is [m, in, k, k] and `second` [out, m] in the order conv3-conv1, [m, in] and [out, m, k, k] in the order conv1-conv3. The first
    is Kaiming normal (fan in, linear), the second zero at the start, so that the branch starts as nothing and still learns: the gradient of
    the second does not vanish.
    """

    def __init__(self, conv: nn.Conv2d, width: int, order: str, draw: torch.Generator):
        super().__init__()
        size = conv.kernel_size
        self.order = order
        first = torch.empty(width, conv.in_channels, *(size if order == "conv3-conv1" else (1, 1)))
        nn.init.kaiming_normal_(first, nonlinearity="linear", generator=draw)
        if order == "conv1-conv3":
            first = first[:, :, 0, 0]
        self.first = nn.Parameter(first.to(conv.weight))
        self.second = nn.Parameter(conv.weight.new_zeros(conv.out_channels, width, *(size if order == "conv1-conv3" else ())))

    def forward(self, weight: Tensor) -> Tensor:  # [out, in, k, k]
        pair = "om,mikl->oikl" if self.order == "conv3-conv1" else "omkl,mi->oikl"
        return weight + torch.einsum(pair, self.second, self.first)


class Beside(nn.Module):
    """`beside(x) == base(x) + side(x)`: the pair as two convs. `base` is a conv, or a conv and its BN."""

    def __init__(self, base: nn.Module, side: nn.Sequential):
        super().__init__()
        self.base, self.side = base, side

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.side(x)


def _conflict(expansion, rank, order, bn, join, start, space, lam, **_) -> str | None:
    """Why these options do not go together, or lead to what could not be folded; None where they do."""
    if expansion and rank:
        return "the width is given by expansion or by rank, not by both"
    if bn and order == "conv1-conv3":
        return 'a BN between conv1 and conv3 shifts what conv3 pads with 0, and could not be folded; take "conv3-conv1"'
    if start == "zero-gamma" and not bn:
        return 'start "zero-gamma" needs a BN in the branch (bn = true)'
    if space == "weight" and (bn or lam is not None or join == "after-bn"):
        return 'in weight space nothing stands inside the branch, and it joins before the BN; take space "branch"'
    return None


@move(refuse=_conflict)
def attach(
    net: nn.Module,
    expansion: Positive | None = None,
    at: Names = "*branch2.0",
    *,
    rank: Positive | None = None,
    order: Literal["conv3-conv1", "conv1-conv3"] = "conv3-conv1",
    bn: bool = False,
    lam: Share | None = None,
    join: Literal["before-bn", "after-bn"] = "before-bn",
    start: Literal["zero-conv", "zero-gamma"] | None = None,
    space: Literal["weight", "branch"] | None = None,
    seed: int = 0,
) -> nn.Module:
    """`attach(net)(x) == net(x)`, and the convs that match `at` have a side branch to train, frozen or not.

    Width: `expansion * out_channels` (2 by default), or `rank`. `order` is "conv3-conv1" (a kernel of the conv's size, then 1x1) or
    "conv1-conv3". `bn` puts a BN behind each conv of the branch, `lam` a LambdaReLU between them that `fit` can slide from there to 1.
    `join` is "before-bn" of the conv's own BN, or "after-bn", before the ReLU. The start is nothing: `start` "zero-conv" zeroes the last
    conv, "zero-gamma" the last BN's weight, the default with `bn`: behind a zero conv, a BN blows the first step's noise up to full size.
    `space` is "weight" where nothing stands between the convs, else "branch"; both give the same outputs and gradients.
    From width min(out, k k in) on the branch's kernel can be any kernel: it changes how the conv is trained, not what it can be.
    Raises `MoveError` for what could not be folded afterwards.
    """
    taken, attached = inside_branches(net), []

    def is_free(name: str, module: nn.Module) -> bool:
        return type(module) is nn.Conv2d and module.groups == 1 and name not in taken

    def with_branch(name: str, conv: nn.Conv2d) -> nn.Module:
        width = rank or (expansion or 2) * conv.out_channels
        draw = generator(seed, name, "side")
        if space != "branch" and not bn and lam is None and join == "before-bn":
            parametrize.register_parametrization(conv, "weight", SideBranch(conv, width, order, draw))
            return conv
        if conv.dilation != (1, 1) or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise MoveError(
                f"attach: {name} has dilation, a padding mode or a padding by name, with which only a branch in weight space can be folded"
            )
        attached.append(name)
        return Beside(conv, _pair(conv, width, order, bn, lam, start, draw)).train(conv.training)

    net = replace(net, is_free, with_branch, at, "attach", "plain conv without side branch")
    for name in attached if join == "after-bn" else ():
        _join_behind(net, name)
    return net


def _join_behind(net: nn.Module, name: str) -> None:
    """The BN behind the branch called `name` goes to the conv beside it."""
    beside, behind = net.get_submodule(name), _name_behind(net, name)
    beside.base = nn.Sequential(beside.base, net.get_submodule(behind)).train(beside.training)
    net.set_submodule(behind, nn.Identity())


def _pair(conv: nn.Conv2d, width: int, order: str, bn: bool, lam: float | None, start: str | None, draw) -> nn.Sequential:
    like = dict(bias=False, device=conv.weight.device, dtype=conv.weight.dtype)
    big = dict(kernel_size=conv.kernel_size, stride=conv.stride, padding=conv.padding)
    shapes = [big, dict(kernel_size=1)] if order == "conv3-conv1" else [dict(kernel_size=1), big]
    first, second = nn.Conv2d(conv.in_channels, width, **shapes[0], **like), nn.Conv2d(width, conv.out_channels, **shapes[1], **like)
    zero_conv = start == "zero-conv" or not bn
    with torch.no_grad():
        for part in (first, second):
            part.weight.copy_(nn.init.kaiming_normal_(torch.empty(part.weight.shape), nonlinearity="linear", generator=draw))
        if zero_conv:
            second.weight.zero_()
    parts = [first, *([_bn(conv, width)] if bn else []), *([] if lam is None else [LambdaReLU(lam).to(conv.weight)]), second]
    if bn:
        parts.append(_bn(conv, conv.out_channels))
        if not zero_conv:
            nn.init.zeros_(parts[-1].weight)
    return nn.Sequential(*parts)


def _bn(conv: nn.Conv2d, channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, device=conv.weight.device, dtype=conv.weight.dtype)


def _name_behind(net: nn.Module, name: str) -> str:
    """The BN behind conv `name` in the same Sequential."""
    parent, _, last = name.rpartition(".")
    holder = net.get_submodule(parent)
    names = [key for key, _ in holder.named_children()]
    behind = names[names.index(last) + 1 :][:1] if type(holder) is nn.Sequential else []
    if not behind or not isinstance(holder.get_submodule(behind[0]), nn.BatchNorm2d):
        raise MoveError(f'attach: join "after-bn" needs a BN right behind {name or "it"}, in one Sequential')
    if not is_batch_norm(holder.get_submodule(behind[0])):
        kind = type(holder.get_submodule(behind[0])).__name__
        raise MoveError(f'attach: a {kind} behind {name} has a forward of its own; join "before-bn" can be folded')
    if holder.get_submodule(behind[0]).running_mean is None:
        raise MoveError(f'attach: the BN behind {name} keeps no running statistics; join "before-bn" can be folded')
    return f"{parent}.{behind[0]}" if parent else behind[0]


@move(exact=True)
def fold(net: nn.Module) -> nn.Module:
    """`fold(net)(x) == net(x)`, without side branches: each is summed into the conv beside it. Other parametrisations of a kernel end too.

    A branch with a BN inside, or joined after one, is constant in eval mode only: `NotExact` in train mode. Raises `MoveError` where
    nothing was attached, or where a LambdaReLU inside is not at lam 1.
    """
    if not any(map(has_side_branch, net.modules())):
        raise MoveError("fold: no conv has a side branch; it was folded already, or never attached")

    def folded(name: str, module: nn.Module) -> nn.Conv2d:
        conv = _folded(f"{name}.side" if name else "side", module) if isinstance(module, Beside) else _summed(module)
        return conv.train(module.training)

    return replace(net, lambda _, module: has_side_branch(module), folded)


def inside_branches(net: nn.Module) -> set[str]:
    """The names of all that stands in a `Beside`, where no other branch can be folded."""
    besides = [f"{name}." if name else "" for name, m in net.named_modules() if isinstance(m, Beside)]
    return {name for name, _ in net.named_modules() if any(name.startswith(beside) for beside in besides)}


def has_side_branch(module: nn.Module) -> bool:
    """Whether `fold` has something to do at this very module."""
    return isinstance(module, Beside) or (isinstance(module, nn.Conv2d) and parametrize.is_parametrized(module, "weight"))


def _summed(conv: nn.Conv2d) -> nn.Conv2d:
    """A conv of the class it was, with the numbers that the parametrised one computes with; frozen where its own parameters are."""
    trains = {name: parameter.requires_grad for name, parameter in conv.named_parameters(recurse=False)}
    trains |= {name: next(p.parameters(recurse=False)).requires_grad for name, p in conv.parametrizations.items()}
    numbers = {name: None if getattr(conv, name) is None else getattr(conv, name).detach().clone() for name in ("weight", "bias")}
    conv.__class__ = type(conv).__mro__[1]  # torch's own way takes the property from the class, which the original has too
    del conv.parametrizations
    for name, number in numbers.items():
        conv._parameters.pop(name, None)
        conv.register_parameter(name, None if number is None else nn.Parameter(number, trains[name]))
    return conv


def _folded(where: str, beside: Beside) -> nn.Conv2d:
    base = beside.base if isinstance(beside.base, nn.Conv2d) else fold_bn(*beside.base)
    side = None
    for part in beside.side:
        if isinstance(part, LambdaReLU):
            if part.lam != 1:
                raise MoveError(f"fold: the LambdaReLU in {where} is at lam = {part.lam.item():g}; a branch folds at lam = 1 only")
        else:
            side = part if side is None else fold_bn(side, part) if isinstance(part, nn.BatchNorm2d) else merge(side, part)
    return add(base, side)
