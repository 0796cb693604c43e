"""Where every word of a chain lives: word -> module of this package. Imports nothing, so that a plan is instant."""

BUILDS = {"build": "net", "vanillanet": "rivals.vanillanet"}
MOVES = {
    "drop_branch": "moves", "set_scaler": "moves", "linearise": "moves", "settle": "moves", "loosen": "moves", "add_relu": "moves",
    "renew": "moves", "freeze": "moves", "reinit": "moves", "attach": "side", "fold": "side", "fuse": "deploy", "pad_first": "deploy",
    "project": "rivals.simkd", "repopt": "rivals.repopt", "learn_lam": "rivals.layerfolding", "narrow": "rivals.supernet",
    "resize": "rivals.pruning",
}  # fmt: skip
SEARCHES = {
    "search_mask": "rivals.depthshrinker", "snap": "rivals.layerfolding", "search_depth": "rivals.depth",
    "search_width": "rivals.supernet", "prune": "rivals.pruning",
}  # fmt: skip
TUNES = {"recalibrate": "batchnorm", "ridge": "rivals.ridge"}
OPTIONS = {"sandwich": "rivals.supernet", "netaug": "rivals.supernet", "lam_weight": "rivals.layerfolding"}  # of a fit, outside the core


def homes(moves: list[dict]) -> set[str]:
    """The modules behind these moves: `homes([{"fold": {}}]) == {"side"}`."""
    every = {**BUILDS, **MOVES, **SEARCHES, **TUNES, "best_of": "rivals.lottery"}
    found = set()
    for move in moves:
        for word, given in move.items():
            if word not in every and word != "fit":
                raise LookupError(f"the word {word!r} has no home: reducenet/home.py says where a word lives")
            said = {given.get("loss"), *(option for option in OPTIONS if given.get(option))} if word == "fit" else ()
            found |= {every[word]} if word in every else {OPTIONS[option] for option in said if option in OPTIONS}
    return found
