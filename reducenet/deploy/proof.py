"""Before `fuse` hands over what it made, it compares that with what it was given: both in float64, on an example and its neighbours."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from reducenet.algebra.plain import NotExact
from reducenet.deploy.trace import Changes
from reducenet.moves.surgery import copied
from reducenet.nets.seeding import generator

LIMITS = {torch.float64: 1e-9, torch.float32: 1e-3}  # of the largest output; rounding of deep networks stays far below
COARSE = 0.05  # for half precision, where a network can run in nothing else
TRIES = 12  # shapes that are tried where no example is given
ATOMS = int | float | complex | str | bool | bytes | None


class Proof(NamedTuple):
    """The largest difference of an output and the largest output, over so many passes in this dtype."""

    difference: float
    largest: float
    passes: int
    dtype: torch.dtype


def prove(net: nn.Module, remade: Callable[[nn.Module], tuple[nn.Module, Changes]], example: Any) -> Proof:
    """`remade(net)(x) == net(x)` for the example, another with its shapes, another size of batch and other sizes of images.

    Both run on the CPU in float64, or as they are where `net` cannot; the same random numbers are drawn for both. `example` is one tensor,
    the shape of an image without its batch, or a tuple of all arguments. Raises `NotExact` in one line: by how much they differ, and the
    first module where they do; or that the network does not take the example, or that no two of its own passes are alike.
    """
    given = arguments(example)
    for exact in (torch.float64, None):
        original = copied(net).cpu().eval()
        original = original.double() if exact else original
        dtype = next((t.dtype for t in (*original.parameters(), *original.buffers()) if t.is_floating_point()), torch.float32)
        example = _cast(given, dtype)
        try:
            first = _run(original, example)
        except Exception as error:
            if exact is None:
                raise NotExact(f"fuse: the network does not take the example {_shapes(example)}: {_line(error)}") from error
            continue
        break
    drawing = not _alike(first, _run(original, example), 0.0)
    if drawing and not _alike(*(_run(original, example, seed=0) for _ in range(2)), 0.0):
        raise NotExact("fuse: two passes of the network on one example differ (a state, a counter, a clock): no other can be equal to it")
    other, changes = remade(original)
    limit, worst, largest, passes = LIMITS.get(dtype, COARSE), 0.0, 0.0, 0
    for number, inputs in enumerate(neighbours(example)):
        if number == 4 and passes > 1:  # what is left is for those that take one shape only
            break
        seed = passes if drawing else None
        try:
            expected = _run(original, inputs, seed)
        except Exception:
            continue  # a network for one size of image takes no other
        try:
            found = _run(other, inputs, seed)
        except Exception as error:
            raise NotExact(f"fuse: on {_shapes(inputs)} the network runs, and fused it does not: {_line(error)}") from error
        gap, size = _gap(expected, found)
        worst, largest, passes = max(worst, gap), max(largest, size), passes + 1
        if gap > limit * max(size, 1e-30):
            where = first_difference(original, other, changes, inputs, limit, seed)
            raise NotExact(
                f"fuse: on {_shapes(inputs)} it would differ by {gap:.2g}, of outputs up to {size:.2g}, first at {where}; nothing is fused"
            )
    return Proof(worst, largest, passes, dtype)


def arguments(example: Any) -> tuple:
    """The arguments that an example stands for: a tuple is all of them, the shape of an image one random image, all else one argument."""
    if isinstance(example, tuple | list) and example and all(isinstance(size, int) for size in example):
        return (torch.randn(1, *example, generator=generator("example", *example)),)
    return tuple(example) if isinstance(example, tuple) else (example,)


def made_up(net: nn.Module) -> tuple | None:
    """Random arguments that `net` takes: what one of its layers takes, the first that fits; None where none does."""
    layers = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)]
    dtype = next((p.dtype for p in net.parameters() if p.is_floating_point()), torch.float32)
    original = copied(net).cpu().eval() if layers else net
    for shape in itertools.islice(dict.fromkeys(itertools.chain(*map(_taken_by, layers))), TRIES):
        inputs = (torch.randn(2, *shape, generator=generator("made up", *shape)).to(dtype),)
        try:
            _run(original, inputs)
        except Exception:
            continue
        return inputs
    return None


def _taken_by(layer: nn.Module) -> list[tuple[int, ...]]:
    """Shapes that `layer` takes, without the batch."""
    if isinstance(layer, nn.Linear):
        return [(layer.in_features,)]
    axes = len(layer.kernel_size)
    return [(layer.in_channels, *[side] * axes) for side in {1: (64,), 2: (33, 64, 28, 32, 224), 3: (16,)}[axes]]


def neighbours(inputs: tuple) -> Iterator[tuple]:
    """The arguments themselves, others in another size of batch, images of two other sizes, and others with the very shapes."""
    yield inputs
    draw = generator("neighbours")

    def drawn(tensor, shape):
        return torch.randn(shape, generator=draw, dtype=torch.float64).to(tensor.dtype) if tensor.is_floating_point() else tensor

    def each(shape_of):
        return tree_map(lambda a: drawn(a, shape_of(a.shape)) if isinstance(a, Tensor) else a, inputs)

    yield each(lambda shape: (1 if shape[0] > 1 else 2, *shape[1:]) if shape else shape)
    for resized in (lambda side: side // 2 if side > 64 else side + 1, lambda side: side // 2 + 1 if side > 64 else 2 * side + 3):
        yield each(lambda shape, resized=resized: (*shape[:2], *map(resized, shape[2:])))
    yield each(lambda shape: shape)


def first_difference(original: nn.Module, other: nn.Module, changes: Changes, inputs: tuple, limit: float, seed: int | None) -> str:
    """The first module, in the order of the calls, whose output is not that of the modules that went into it."""
    last = {}
    for rule, what, into in changes.steps:
        if into:
            last[into] = last.get(what, what) if rule != "add" else None
    expected, found = ({}, {})
    for net, seen in ((original, expected), (other, found)):
        for name, module in net.named_modules():
            module.register_forward_hook(lambda _, __, out, name=name, seen=seen: seen.setdefault(name, []).append(tree_map(_kept, out)))
        _run(net, inputs, seed)
    for name, outputs in found.items():
        source = last.get(name, name)
        if name and source in expected and not _alike(expected[source], outputs, limit):
            return name
    return "what stands between its layers"


def _kept(value):
    return value.detach().clone() if isinstance(value, Tensor) else value


@torch.no_grad()
def _run(net: nn.Module, inputs: tuple, seed: int | None = None):
    """The outputs for copies of the inputs, which a network may write into; with a seed, everything random is drawn from it."""
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        return net._call_impl(*tree_map(_kept, inputs))  # hooks too, and without what a GraphModule says of an error


def _cast(inputs: tuple, dtype: torch.dtype) -> tuple:
    return tree_map(lambda a: a.detach().cpu().to(dtype) if isinstance(a, Tensor) and a.is_floating_point() else _on_cpu(a), inputs)


def _on_cpu(value):
    return value.cpu() if isinstance(value, Tensor) else value


def _alike(one, two, limit: float) -> bool:
    gap, size = _gap(one, two)
    return gap <= limit * size


def _gap(expected, found) -> tuple[float, float]:
    """The largest difference of two outputs, and the largest number in the first; infinite where they are not even of one kind."""
    (a, spec_a), (b, spec_b) = tree_flatten(expected), tree_flatten(found)
    if spec_a != spec_b:
        return float("inf"), 0.0
    pairs = [_between(*pair) for pair in zip(a, b, strict=True)]
    return max((gap for gap, _ in pairs), default=0.0), max((size for _, size in pairs), default=0.0)


def _between(a, b) -> tuple[float, float]:
    if isinstance(a, float) and isinstance(b, float):
        a, b = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return (0.0 if type(a) is type(b) and (a == b or not isinstance(a, ATOMS)) else float("inf")), 0.0
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf"), 0.0
    if not a.numel():
        return 0.0, 0.0
    a, b = (t.double() if not t.is_complex() else t for t in (a, b))
    gap = torch.where((a == b) | (a.isnan() & b.isnan()), 0.0, (a - b).abs()).nan_to_num(float("inf"), float("inf"))
    return gap.max().item(), a.abs().nan_to_num(0.0, 0.0).max().item()


def _shapes(inputs: tuple) -> str:
    leaves, _ = tree_flatten(inputs)
    return " and ".join(str(list(leaf.shape)) if isinstance(leaf, Tensor) else repr(leaf)[:40] for leaf in itertools.islice(leaves, 4))


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
