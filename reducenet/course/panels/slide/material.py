"""What the live panel of page 01 is handed: two trained networks as programs, a pair of each taken apart, and what was measured beforehand.

What runs over hundreds of images is recorded: `python -m reducenet.course.panels.slide.material` writes the shipped networks' curves to
record.json; others are measured when asked for.
"""

from pathlib import Path

import torch
from torch import nn

from reducenet.algebra.exact import merge
from reducenet.course import nets
from reducenet.course.live import record
from reducenet.course.live.images import handed, limits, picked
from reducenet.course.live.program import program
from reducenet.course.panels.slide.bench import Bench, at_lam, first_pair
from reducenet.data.tensors import Split
from reducenet.data.tensors import load as load_data
from reducenet.deploy.fuse import fuse
from reducenet.learn import evaluate, measure
from reducenet.nets.activation import LambdaReLU

RECORD = Path(__file__).with_name("record.json")
STEPS = 21
LAMS = tuple(i / (STEPS - 1) for i in range(STEPS))
SHOWN = {"in": 8, "inner": 32, "out": 8}  # channels of the pair that are drawn, at most
TITLES = {"relu": "trained with ReLU", "slide": "trained while it slid"}


def material(bench: Bench, lam: float = 0.0) -> dict:
    """All that the panel shows, as JSON; `lam` is where it starts."""
    held = picked(bench.held, len(bench.data.classes))
    return {
        "start": {"step": round(lam * (STEPS - 1)), "image": telling(bench, held)},
        "steps": STEPS,
        **handed(bench.data, bench.held, held),
        "limits": limits(evaluate.logits(at_lam(net, lam), bench.data, held) for net in bench.nets.values() for lam in (0, 0.5, 1)),
        "nets": {name: {"title": TITLES[name], **_net(net, bench)} for name, net in bench.nets.items()},
    }


def curve(net: nn.Module, bench: Bench) -> list[int]:
    """How many held-out images are right at every lam."""
    return [int(evaluate.correct(at_lam(net, lam), bench.data, bench.held).sum()) for lam in LAMS]


def digest(net: nn.Module, bench: Bench) -> str:
    """Names a curve: the weights, and every image that has to do with it. Not the lams: the curve has them all."""
    parts = (*at_lam(net, 0.0).state_dict().values(), *bench.held)
    return record.digest(parts)


def recorded(net: nn.Module, bench: Bench) -> list[int]:
    """The curve from the record; that of a network which is not in it is measured now."""
    return record.read(RECORD).get(digest(net, bench)) or curve(net, bench)


def pair_programs(net: nn.Module, shape: tuple[int, int, int]) -> dict:
    """The first pair as two convs, padded before the "first" or before the "second", and as "one"; `shape` is that of its input."""
    _, first, second = first_pair(net)
    one = merge(first, second)
    bare, padded = (_padded(conv, padding) for conv, padding in ((first, (0, 0)), (second, first.padding)))
    pairs = {"first": (first, second), "second": (bare, padded)}
    told = {name: program(nn.Sequential(a, LambdaReLU(), b).eval(), shape) for name, (a, b) in pairs.items()}
    return told | {"one": program(nn.Sequential(one).eval(), shape)}


def _padded(conv: nn.Conv2d, padding: tuple[int, int]) -> nn.Conv2d:
    other = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, padding)
    other.load_state_dict(conv.state_dict())
    return other


def _net(net: nn.Module, bench: Bench) -> dict:
    told, (name, first, second) = program(net, bench.shape), first_pair(net)
    source = told["ops"][told["names"][f"{name}.0"]]["in"][0]
    return {
        "program": told,
        "pair": name,
        "source": source,  # the value that the pair reads
        "convs": pair_programs(net, tuple(told["ops"][source]["shape"])),
        "channels": [min(SHOWN["in"], first.in_channels), min(SHOWN["inner"], first.out_channels), min(SHOWN["out"], second.out_channels)],
        "costs": {
            what: [measure.parameters(deployed), measure.macs(deployed, bench.shape)]
            for what, deployed in (("two", fuse(at_lam(net, 0.0), strict=False)), ("one", fuse(at_lam(net, 1.0))))
        },
        "home": net.get_submodule(f"{name}.2").lam.item(),
        "curve": recorded(net, bench),
    }


def telling(bench: Bench, held: Split) -> int:
    """The image that the ReLU network is surest of among those that it loses at lam 1, if it can be one that the other gets right there."""

    def right(name: str, lam: float) -> torch.Tensor:
        return evaluate.correct(at_lam(bench.nets[name], lam), bench.data, held)

    best = evaluate.logits(at_lam(bench.nets["relu"], 0.0), bench.data, held).topk(2).values
    lost = right("relu", 0.0) & ~right("relu", 1.0)
    worth = torch.where(lost, best[:, 0] - best[:, 1], -1e3) + 1e2 * (lost & right("slide", 1.0))
    return int(worth.argmax())


def shipped() -> Bench:
    """The shipped networks with the images that the record speaks of."""
    return Bench({name: nets.shipped(f"lambda-{name}") for name in TITLES}, load_data("fashion-mini"))


if __name__ == "__main__":
    bench = shipped()
    record.write(RECORD, {digest(net, bench): curve(net, bench) for net in bench.nets.values()})
