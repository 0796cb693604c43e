"""How much of a training step is convolutions: what a step would take if nothing else took time."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.crew import Crew
from benchmarks.harness import Row, Size, Turn, at_least, interleave, row
from benchmarks.replicates import TOGETHER, together
from benchmarks.training import STUDENT, fitting
from benchmarks.usual import BATCH, shape
from reducenet import build, load_data

LAYOUTS = (torch.contiguous_format, torch.channels_last)


class Layer(NamedTuple):
    """A convolution as a step meets it."""

    conv: nn.Conv2d
    x: Tensor
    first: bool  # nobody wants the gradient of images


def layers(net: nn.Module, images: Tensor) -> list[Layer]:
    """Every convolution of the network with what it is given for these images, in their order."""
    found: list[Layer] = []
    hooks = [
        conv.register_forward_hook(lambda conv, given, _: found.append(Layer(conv, given[0].detach(), given[0] is images)))
        for conv in net.modules()
        if isinstance(conv, nn.Conv2d)
    ]
    with torch.no_grad():
        net(images)
    for hook in hooks:
        hook.remove()
    return found


def bare(layer: Layer, layout: torch.memory_format, groups: int = 1) -> Callable[[], None]:
    """The convolution forward and its gradients, of `groups` replicates side by side, and nothing else."""
    conv = layer.conv
    x = layer.x.repeat(1, groups, 1, 1).contiguous(memory_format=layout)
    weight = conv.weight.detach().repeat(groups, 1, 1, 1).contiguous(memory_format=layout)
    how = (conv.stride, conv.padding, conv.dilation)
    grad = torch.ones_like(torch.conv2d(x, weight, None, *how, groups), memory_format=layout)
    wanted = (not layer.first, True, False)

    def once() -> None:
        torch.conv2d(x, weight, None, *how, groups)
        torch.ops.aten.convolution_backward(grad, x, weight, None, *how, False, (0, 0), groups, wanted)

    return once


def convolutions(number: int, made: dict, data: str, count: int, seconds: float) -> Turn:
    """A turn: the seconds that the convolutions of a step of `count` replicates take, each in its best layout, side by side or apart."""
    given = load_data(data)
    found = layers(build(**made, **shape(given), seed=number), given.normalise(given.train.images[:BATCH]))
    part = seconds / len(found)

    def fastest(layer: Layer) -> tuple[Callable[[], None], int]:
        ways = [(bare(layer, layout, groups), count // groups) for layout in LAYOUTS for groups in {1, count}]
        return min(ways, key=lambda way: way[1] * _once(way[0], part))

    best = [fastest(layer) for layer in found]
    return lambda: sum(times * _once(once, part) for once, times in best)


def _once(work: Callable[[], None], seconds: float) -> float:
    """What it takes once, from as many as fit into `seconds`, 3 at least; one before, for the caches."""
    work()
    start, count = time.perf_counter(), 0
    while count < 3 or time.perf_counter() - start < seconds:
        work()
        count += 1
    return (time.perf_counter() - start) / count


def convs(size: Size) -> list[Row]:
    rows = []
    steps = -(-size.images // BATCH)
    with Crew(2, 1) as pair:
        for count, trained, said, figure in (
            (1, fitting, "fit", "student, width 8"),
            (TOGETHER, together, "fit_replicates", "two students as one, width 8"),
        ):
            step = pair.turn(trained, STUDENT, size.data, size.images)
            sides = {
                "convs": pair.turn(convolutions, STUDENT, size.data, count, size.seconds),
                "step": lambda step=step: step() / steps,
            }
            took = {name: [1000 * second for second in given] for name, given in interleave(sides, size.rounds).items()}
            rows.append(row(
                f"share of convolutions, {figure}", "ms a step", took["convs"], took["step"], reach=at_least(0.9) if count > 1 else None,
                ours_is="bare convolutions, each layer in its best layout", reference_is=f"a step of {said}",
                holds_back="Views, BatchNorm, ReLU, additions and the optimiser read and write the same maps again, each for the fixed "
                "cost of an operation; the network's one layout is not the best of every layer."))  # fmt: skip
    return rows
