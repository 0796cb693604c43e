"""What the live panel of page 04 is handed: two networks as programs, what its branch changed, and what was measured beforehand.

`python -m reducenet.course.panels.fold.material` writes how many images the shipped networks get right to record.json; others are
measured when asked for, along the ends only.
"""

import base64
from pathlib import Path

import torch
from torch import Tensor

from reducenet.course import nets
from reducenet.course.live import record
from reducenet.course.live.images import handed, picked
from reducenet.course.live.program import program
from reducenet.course.panels.fold.bench import Bench
from reducenet.data.tensors import load as load_data
from reducenet.learn import evaluate, measure
from reducenet.moves.side import fold

RECORD = Path(__file__).with_name("record.json")
LET_IN = tuple(i / 10 for i in range(11))  # scales of the branch; as many steps again fold it
TEMPERATURES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0)


def material(bench: Bench, rank: int = 32, temperature: float = 4.0) -> dict:
    """All that the panel shows, as JSON; `rank` and `temperature` are where it starts."""
    held, temperatures = picked(bench.held, len(bench.data.classes)), sorted({*TEMPERATURES, temperature})
    start = max(i for i, one in enumerate(bench.ranks) if one <= max(rank, 0))
    opened, folded = bench.opened(), fold(bench.side)
    cost = {what: [measure.parameters(net), measure.macs(net, bench.shape)] for what, net in (("opened", opened), ("folded", folded))}
    return {
        "start": {"rank": start, "temperature": temperatures.index(temperature), "image": telling(bench)},
        **handed(bench.data, bench.held, held),
        "ranks": bench.ranks,
        "temperatures": temperatures,
        "student": program(opened, bench.shape),
        "teacher": program(bench.teacher, bench.shape),
        "blocks": [_block(bench, name) for name in bench.convs],
        "right": recorded(bench),
        "costs": cost,
    }


def counts(bench: Bench, everywhere: bool) -> dict:
    """How many held-out images are right: `side[rank][scale]`, None where nobody looked, and `control[rank]`."""

    def right(net) -> int:
        return int(evaluate.correct(net, bench.data, bench.held).sum())

    def asked(rank: int, scale: float) -> bool:
        return everywhere or scale == 1 or rank == bench.ranks[-1]

    side = [[right(bench.opened(scale, rank)) if asked(rank, scale) else None for scale in LET_IN] for rank in bench.ranks]
    control = [right(bench.changed(bench.control_changes, rank)) for rank in bench.ranks] if bench.control else []
    return {"side": side, "control": control}


def digest(bench: Bench) -> str:
    """Names the counts: the weights, and every image that has to do with them."""
    tensors = [t for net in (bench.side, bench.control) if net is not None for t in net.state_dict().values()]
    return record.digest((*tensors, *bench.held))


def recorded(bench: Bench) -> dict:
    """The counts from the record; of networks that are not in it, measured now, where one of scale and rank is full."""
    return record.read(RECORD).get(digest(bench)) or counts(bench, everywhere=False)


def _block(bench: Bench, name: str) -> dict:
    """One conv with its branch: where its parts are in the program, how its change is turned, and how large it is in each direction."""
    conv, change = bench.convs[name], bench.changes[name]
    turned = torch.linalg.svd(change, full_matrices=False)
    control = torch.linalg.svdvals(bench.control_changes[name]).tolist() if bench.control else []
    return {
        "name": name,
        "called": name.split(".")[0].replace("stage", "stage "),
        "shape": [conv.out_channels, change.shape[1], len(conv.parametrizations.weight[0].first)],
        "directions": _text(turned.U),  # [out, min(out, in k k)], row by row
        "values": turned.S.tolist(),
        "control": control,
    }


def _text(numbers: Tensor) -> str:
    return base64.b64encode(numbers.float().numpy().astype("<f4").tobytes()).decode()


def telling(bench: Bench) -> int:
    """Among images that teacher and branch get right for sure and the bare student does not: where the teacher's soft labels say most."""
    held = picked(bench.held, len(bench.data.classes))
    nets = (bench.teacher, bench.opened(), bench.opened(0.0))
    teacher, branch, alone = (evaluate.logits(net, bench.data, held) for net in nets)
    right = [logits.argmax(1) == held.labels for logits in (teacher, branch, alone)]
    best = branch.topk(2).values
    told = right[0] & right[1] & ~right[2] & (best[:, 0] - best[:, 1] > 1)
    entropy = torch.distributions.Categorical(logits=teacher / 4).entropy()
    return int(torch.where(told, entropy, -1.0).argmax())


def shipped() -> Bench:
    """The shipped networks with the images that the record speaks of."""
    return Bench(nets.shipped("teacher-e4"), nets.shipped("side"), nets.shipped("side-conv"), load_data("fashion-mini"))


if __name__ == "__main__":
    torch.set_num_threads(1)
    bench = shipped()
    record.write(RECORD, {digest(bench): counts(bench, everywhere=True)})
