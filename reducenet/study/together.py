"""Which replicates of an arm are trained together, as one grouped network. Decided before anything runs, by a rule that was measured.

On a CPU two narrow networks cost less side by side than one after the other, and wide ones gain nothing; a GPU is idle with either, so
there it is all of them. What a replicate becomes does not depend on who stands beside it, only on whether somebody does.
"""

from reducenet.study.read import Study
from reducenet.words import find, words

NARROW = 8  # channels: where a processor's lanes are filled by the next network rather than by this one
PAIR = 2  # three and more gained less on the machine where this was measured


def many(study: Study, device: str, arm: str) -> int:
    """How many replicates of an arm at once: what the study asks for, or what pays for networks of its width on this type of device."""
    if study.together != "auto":
        return study.together
    if device == "cuda":
        return study.seeds
    (start,) = study.chains[arm][0].values()
    return PAIR if start.get("width", NARROW + 1) <= NARROW else 1


def groups(study: Study, device: str, arm: str) -> dict[int, tuple[int, ...]]:
    """seed -> the seeds trained with it, itself included. More seeds later leave groups that are full as they are."""
    size = many(study, device, arm)
    return {seed: tuple(other for other in study.replicates if other // size == seed // size) for seed in study.replicates}


def joins(pieces: list[list[dict]]) -> bool:
    """Whether the last of these pieces of a chain can be trained together: it ends in a fit, whose loss asks a network for its logits
    alone, and nothing before it decided for a replicate what it looks like."""
    decided = any(find("sentence", name).kind in ("search", "choice") for piece in pieces for move in piece for name in move)
    fit = pieces[-1][-1].get("fit")
    return fit is not None and not decided and words("loss")[fit["loss"]].options.get("asks") == "logits"
