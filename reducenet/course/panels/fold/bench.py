"""What the panel is about: a student with its trained side branch, the same convs trained without one, their teacher, held-out images."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from reducenet.course.live.images import held_out
from reducenet.data.tensors import Data, Split
from reducenet.moves.side import has_side_branch
from reducenet.moves.surgery import replace


class Dialled(nn.Module):
    """`base(x) + scale * second(first(x))`: a side branch as two convs, let in as far as the scale says."""

    def __init__(self, base: nn.Conv2d, first: nn.Conv2d, second: nn.Conv2d, scale: float):
        super().__init__()
        self.base, self.first, self.second, self.scale = base, first, second, scale

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scale * self.second(self.first(x))


@dataclass(frozen=True)
class Bench:
    """`side` has branches in weight space, conv3 then conv1; `control` is the same student with those convs trained themselves, or None."""

    teacher: nn.Module
    side: nn.Module
    control: nn.Module | None
    data: Data
    images: int = 500

    @cached_property
    def held(self) -> Split:
        return held_out(self.data, self.images)

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self.data.val.images.shape[1:])

    @cached_property
    def convs(self) -> dict[str, nn.Conv2d]:
        """The convs with a branch, by name."""
        return {name: module for name, module in self.side.named_modules() if has_side_branch(module)}

    @cached_property
    def changes(self) -> dict[str, Tensor]:
        """What training the branch added to each kernel, [out, in k k], float64."""
        return {name: _matrix(conv.weight) - _matrix(conv.parametrizations.weight.original) for name, conv in self.convs.items()}

    @cached_property
    def control_changes(self) -> dict[str, Tensor]:
        """What training added to the same kernels of the control; empty without one."""
        if self.control is None:
            return {}
        start = {name: _matrix(conv.parametrizations.weight.original) for name, conv in self.convs.items()}
        return {name: _matrix(self.control.get_submodule(name).weight) - start[name] for name in self.convs}

    @property
    def ranks(self) -> list[int]:
        """The ranks that the panel offers: 0 up to the largest that a change can have."""
        full = max(min(change.shape) for change in self.changes.values())
        return [rank for rank in (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48) if rank < full] + [full]

    def opened(self, scale: float = 1.0, rank: int | None = None) -> nn.Module:
        """The student with its branches as convs beside its own, at this scale; of this rank at most, where one is given."""

        def dialled(name: str, conv: nn.Conv2d) -> nn.Module:
            pair = conv.parametrizations.weight[0]
            like = {"stride": conv.stride, "padding": conv.padding, "bias": False}
            base, first = (nn.Conv2d(conv.in_channels, w, conv.kernel_size, **like) for w in (conv.out_channels, len(pair.first)))
            second = nn.Conv2d(len(pair.first), conv.out_channels, 1, bias=False)
            base.weight.data, first.weight.data = conv.parametrizations.weight.original.data, pair.first.data
            second.weight.data = (onto(self.changes[name], rank) @ pair.second.double()).float()[..., None, None]
            return Dialled(base, first, second, scale)

        return replace(self.side, lambda _, module: has_side_branch(module), dialled).eval()

    def changed(self, changes: dict[str, Tensor], rank: int | None = None) -> nn.Module:
        """The student with these changes added to its kernels, each cut to this rank."""

        def conv_with(name: str, conv: nn.Conv2d) -> nn.Module:
            plain = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, bias=False)
            start, change = conv.parametrizations.weight.original.data, changes[name]
            plain.weight.data = start + (onto(change, rank) @ change).float().view_as(start)
            return plain

        return replace(self.side, lambda _, module: has_side_branch(module), conv_with).eval()


def onto(change: Tensor, rank: int | None) -> Tensor:
    """[out, out]: `onto(change, r) @ change` is the matrix of rank r nearest to the change."""
    if rank is None:
        return torch.eye(len(change), dtype=change.dtype)
    left = torch.linalg.svd(change, full_matrices=False).U[:, :rank]
    return left @ left.T


def _matrix(kernel: Tensor) -> Tensor:
    return kernel.detach().double().flatten(1)
