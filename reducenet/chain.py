"""A chain is a sentence of moves, written as in a study file: `{"freeze": {"parts": ["classifier"]}}`. Here is what every word does.

build     starts a network           build, vanillanet
move      net -> net                 played again when a checkpoint is loaded, so it depends on structure, never on values
search    net, data -> moves         decides; the moves it decides on are performed and recorded in its place
tune      net, data -> net           other tensors, the same structure: without fit's epochs
fit       net, data -> net           trains
"""

import inspect
from collections.abc import Callable
from importlib import import_module

from torch import nn

from reducenet import activation, distill
from reducenet.home import BUILDS, MOVES, SEARCHES, TUNES


def word(move: str | dict) -> tuple[str, dict]:
    """The name of a move and its parameters, spelled as in a study file: `word({"freeze": "all"}) == ("freeze", {"parts": "all"})`."""
    if isinstance(move, str):
        return move, {}
    if not isinstance(move, dict) or len(move) != 1:
        raise ValueError(f"a move is a name or a dict with one name, not {move!r}")
    ((name, given),) = move.items()
    if isinstance(given, dict):
        return name, given
    first = "epochs" if name == "fit" else next((key for key in inspect.signature(function(name)).parameters if key != "net"), None)
    if first is None:
        raise ValueError(f"{name} takes no parameters, not {given!r}")
    return name, {first: given}


def function(name: str) -> Callable:
    """The function behind a word of any kind but fit; a `ValueError` that lists the words where there is none."""
    home = {**BUILDS, **MOVES, **SEARCHES, **TUNES}
    if name not in home:
        raise ValueError(f"unknown move {name!r}; known: {', '.join([*BUILDS, 'fit', *MOVES, *SEARCHES, *TUNES])}")
    return getattr(import_module(f"reducenet.{home[name]}"), name)


def perform(net: nn.Module | None, move: dict, seed: int = 0) -> nn.Module:
    """The network after one build or move of a chain: `perform(net, {"fold": {}})`."""
    name, parameters = word(move)
    if name == "fit" or name in SEARCHES or name in TUNES:
        raise ValueError(f"{name} needs data: a run of a study performs it, or the function of that name")
    move = function(name)
    known = [key for key in inspect.signature(move).parameters if key not in ("net", "seed")]
    if wrong := [key for key in parameters if key not in known]:
        raise ValueError(f"{name}: unknown parameter {wrong[0]!r}; known: {', '.join(known) or 'none'}")
    seeded = {"seed": seed} if "seed" in inspect.signature(move).parameters else {}
    return move(*(() if name in BUILDS else (net,)), **parameters, **seeded)


DRAWING = ("sandwich", "netaug")  # losses that draw what they compute, at every step


def objective(fit: dict, teacher: nn.Module | None = None, seed: int = 0) -> Callable:
    """The loss that the parameters of a fit stand for: `loss(net, x, y) -> (loss, logits)`."""
    losses = {
        "ce": lambda: distill.cross_entropy,
        "smoothed": lambda: distill.smoothed(fit["smoothing"]),
        "kd": lambda: distill.soft_labels(teacher, fit["kd_weight"], fit["temperature"], fit["kd_reduction"]),
        "features": lambda: distill.feature_alignment(teacher, fit["feature_weight"]),
        "hints": lambda: distill.hints(teacher, fit["feature_weight"]),
        "attention": lambda: distill.attention(teacher, fit["feature_weight"]),
        "match": lambda: distill.feature_match(teacher),
        "block-wise": lambda: distill.block_wise(teacher),
        "sandwich": lambda: import_module("reducenet.rivals.supernet").sandwich(fit["subnets"], seed=seed),
        "netaug": lambda: import_module("reducenet.rivals.supernet").netaug(fit["aug_weight"], seed=seed),
    }
    loss = losses[fit.get("loss", "ce")]()
    if not fit.get("lam_weight"):
        return loss
    return import_module("reducenet.rivals.layerfolding").with_lam_penalty(loss, fit["lam_weight"])


def hooks(fit: dict) -> list[Callable]:
    """What the parameters of a fit do before every step: `hook(net, progress)`."""
    slides = [activation.slide(fit["lam"], fit["lam_until"])] if fit.get("lam") else []
    return [*slides, import_module("reducenet.rivals.layerfolding").keep_in_range] if fit.get("lam_weight") else slides
