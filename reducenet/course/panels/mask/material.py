"""What the live panel of page 02 is handed: the trained network as a program, images, and what was measured of every mask beforehand.

`python -m reducenet.course.panels.mask.material` measures the shipped network into record.json: every mask as it is, with BN statistics
anew, trained on, and timed; and the mask that each way of choosing ends at. Other networks get the first two alone, when asked.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from reducenet.course import nets
from reducenet.course.evidence import Evidence
from reducenet.course.live import record
from reducenet.course.live.images import handed, picked, pixels
from reducenet.course.live.program import program
from reducenet.course.panels.mask.bench import Bench
from reducenet.data.tensors import load as load_data
from reducenet.deploy.fuse import fuse
from reducenet.learn import evaluate, measure
from reducenet.methods.depthshrinker import search_mask
from reducenet.methods.removal import convs
from reducenet.play.machine import environment
from reducenet.words import split

RECORD = Path(__file__).with_name("record.json")
CHOOSERS = ("learned", "greedy", "magnitude", "random")
ROUNDS = 40  # of timing, short ones; the fastest counts, since other work only slows down


def material(bench: Bench) -> dict:
    """All that the panel shows, as JSON."""
    held, sample, told = picked(bench.held, len(bench.data.classes)), bench.sample.train, program(bench.net, bench.shape)
    logits = torch.stack([evaluate.logits(bench.masked(mask), bench.data, held) for mask in bench.masks])
    return {
        "start": {"image": telling(logits, held.labels)},
        **handed(bench.data, bench.held, held),
        "batch": {"pixels": pixels(sample.images), "count": len(sample.labels)},
        "limits": [logits.quantile(0.005).clamp(max=0).item(), logits.quantile(0.995).clamp(min=0).item()],  # a few masks explode
        "program": told,
        "acts": list(bench.acts.values()),
        "blocks": [_block(bench.net.get_submodule(name), told["ops"][told["names"][f"{name}.conv3"]]["shape"]) for name in bench.acts],
        "costs": costs(bench),
        "record": recorded(bench),
    }


def costs(bench: Bench) -> dict[str, list[int]]:
    """Of every mask, as deployed: parameters, multiply-adds of one image, convs. Each ReLU that goes saves what it saves alone."""
    full = len(bench.masks) - 1
    counted = {mask: _counted(bench, mask) for mask in [full, *(full ^ 1 << i for i in range(len(bench.acts)))]}
    saved = [[a - b for a, b in zip(counted[full], counted[full ^ 1 << i], strict=True)] for i in range(len(bench.acts))]
    rows = [
        [value - sum(s[j] for i, s in enumerate(saved) if not mask >> i & 1) for j, value in enumerate(counted[full])]
        for mask in bench.masks
    ]
    return dict(zip(("parameters", "macs", "convs"), map(list, zip(*rows, strict=True)), strict=True))


def _counted(bench: Bench, mask: int) -> tuple[int, int, int]:
    net = fuse(bench.masked(mask), strict=False)
    return measure.parameters(net), measure.macs(net, bench.shape), convs(net)


def _block(block: nn.Module, shape: tuple[int, int, int]) -> dict:
    """The multiply-adds of the convs of a block: the wide conv3 and the conv1 of its pair, the one they merge to, and the conv3 behind."""
    wide, narrow, after = block.pair[0].weight, block.pair[3].weight, block.conv3.weight
    macs = {"wide": wide.numel(), "narrow": narrow.numel(), "one": wide[0].numel() * len(narrow), "after": after.numel()}
    return {what: count * shape[1] * shape[2] for what, count in macs.items()}


def digest(bench: Bench) -> str:
    """Names a record: the weights, and every image that has to do with it."""
    parts = (*bench.net.state_dict().values(), *bench.held, bench.sample.train.images)
    return record.digest(parts)


def recorded(bench: Bench) -> dict:
    """The record of this network; of one that is not in it, what takes seconds to measure."""
    return record.read(RECORD).get(digest(bench)) or {**counts(bench), "trained": None, "seconds": None, "machine": None, "chosen": {}}


def counts(bench: Bench) -> dict[str, list[int]]:
    """How many held-out images are right with every mask: as it is, and with statistics anew."""
    return {name: [right(bench, net(mask)) for mask in bench.masks] for name, net in (("as-is", bench.masked), ("anew", bench.anew))}


def right(bench: Bench, net) -> int:
    return int(evaluate.correct(net, bench.data, bench.held).sum())


def chosen(bench: Bench, by: str, keep: int, **given) -> int:
    """The mask that this way of choosing ends at."""
    moves = dict(map(split, search_mask(bench.net, bench.data, keep=keep, by=by, **given)))
    gone = moves["linearise"]["at"]
    return sum(1 << i for i, acts in enumerate(bench.acts.values()) if not set(acts) & set(gone))


def seconds(bench: Bench) -> list[float]:
    """Median seconds of one image through the deployed network of every mask, the fastest of several rounds."""
    deployed = [fuse(bench.masked(mask), strict=False) for mask in bench.masks]
    rounds = [[measure.latency(net, bench.shape, seconds=0.005)["median"] for net in deployed] for _ in range(ROUNDS)]
    return [float(f"{min(times):.3g}") for times in zip(*rounds, strict=True)]


def telling(logits: Tensor, labels: Tensor) -> int:
    """The image that about half of the masks get right, of those that the whole network does: every switch may matter."""
    rights = logits.argmax(2) == labels  # [masks, images]
    return int(torch.where(rights[-1], (rights.float().mean(0) - 0.5).abs(), 1.0).argmin())


def shipped() -> Bench:
    """The shipped network with the images that the record speaks of."""
    return Bench(nets.shipped("six-relus"), load_data("fashion-mini"))


def measured(bench: Bench) -> dict:
    """All that is recorded, as the study `masks` trains it with seed 0."""
    (_, again) = split(Evidence("masks").study.arms["none"].chain[1])
    trained = [right(bench, bench.trained(mask, **again, seed=0, device="cpu", progress=False)) for mask in bench.masks]
    choices = {by: [chosen(bench, by, keep, seed=0) for keep in range(len(bench.acts))] for by in CHOOSERS}
    return {**counts(bench), "trained": trained, "seconds": seconds(bench), "machine": environment("cpu")["processor"], "chosen": choices}


if __name__ == "__main__":
    bench = shipped()
    record.write(RECORD, {digest(bench): measured(bench)})
