"""The trained networks that travel with the course, each the end of an arm of a study, seed 0; and the same arms trained anew.

`python -m reducenet.course.nets` fetches them from the store, after `reducenet run` of their studies.
"""

import shutil
from pathlib import Path

from torch import nn

from reducenet.data.tensors import Data
from reducenet.learn.train import DivergedError
from reducenet.play.checkpoint import load
from reducenet.play.play import Bench, Played, play
from reducenet.study.read import Study
from reducenet.words import MoveError, arms_named, split

FOLDER = Path(__file__).parent / "nets"
EXPANSIONS = (1, 2, 4, 8)
ARMS = {f"teacher-e{e}": ("expansion", f"e{e}") for e in EXPANSIONS}  # file -> (study, arm)
ARMS |= {"lambda-relu": ("lambda", "wide"), "lambda-slide": ("lambda", "slide")}  # page 01: pairs around a LambdaReLU, unfused
ARMS |= {"student-fc": ("quick", "drop-fc")}  # page 00: what the second training makes of the teacher without its branches
ARMS |= {"side": ("side", "side"), "side-conv": ("side", "conv")}  # page 04: the side branch, unfolded, and its control
ARMS |= {"six-relus": ("masks", "wide")}  # page 02: six blocks, a ReLU inside each, any of which may go


def shipped(name: str) -> nn.Module:
    """The shipped network of this name, in eval mode. `CheckpointError` where its file is damaged."""
    if name not in ARMS:
        raise ValueError(f"no network {name!r} is shipped; there are {', '.join(ARMS)}")
    return load(FOLDER / f"{name}.safetensors").eval()


def teachers() -> dict[int, nn.Module]:
    """expansion -> shipped teacher."""
    return {expansion: shipped(f"teacher-e{expansion}") for expansion in EXPANSIONS}


def trained(study: Study, arm: str, data: Data, *, seed: int, epochs: int, build: dict, device: str, progress: bool = False) -> Played:
    """The arm's chain played here: every fit takes `epochs`, `build` goes before what it says of it. Networks that it needs come first.

    Raises `MoveError` for an arm whose epochs follow from another's cost, `DivergedError` where a fit diverges.
    """
    played, fits = None, 0
    for move in study.chains[arm]:
        name, given = split(move)
        if name == "fit" and given.get("cost_of") is not None:
            raise MoveError(f"{arm}: its epochs follow from another arm's cost; `reducenet run` it")
        own = {"build": build, "fit": {"epochs": epochs}}.get(name, {})
        needs = dict(arms_named(move))
        how = dict(seed=seed, epochs=epochs, build=build, device=device, progress=progress)
        networks = {p: trained(study, a, data, **how).net for p, a in needs.items()}
        before = {"net": played.net, "before": played.sentence} if played else {}
        bench = Bench(data, networks, device=device, progress=progress)
        played = play([{name: given | own}], bench, **before, seed=seed, nth_fit=fits)
        fits += name == "fit"
        if played.diverged:
            raise DivergedError(arm, played.rows)
    played.net = played.net.eval()
    return played


if __name__ == "__main__":
    from reducenet.study.plan import plan

    FOLDER.mkdir(exist_ok=True)
    plans = {study: plan(f"ablations/{study}.toml") for study, _ in ARMS.values()}
    for name, (study, arm) in ARMS.items():
        file = Path("ablations/store") / plans[study].runs[plans[study].ends[arm, 0]].trained / "net.safetensors"
        if file.is_file():
            print(shutil.copy(file, FOLDER / f"{name}.safetensors"), f"{file.stat().st_size / 1e3:.0f} kB")
        else:
            print(f"{name} stays as it is: `reducenet run {study}` first")
