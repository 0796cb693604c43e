"""How the learning rates of arms were chosen, from the rows of studies that choose on validation images: said, not typed."""

from copy import deepcopy

from reducenet.study.claims.records import Records
from reducenet.study.read import Study
from reducenet.study.report.text import inline


def said(records: Records, study: Study, arms: list[str]) -> str:
    """One sentence, in Markdown: the rate of each arm against those that were tried of it, and which arms had no such trial."""
    chosen, untried = [], []
    for arm in arms:
        rate, tried = _rate(study.chains[arm]), _tried(records, study, arm)
        own = study.arms[arm].last_fit is not None
        if rate is None or (study.tune and not own) or (arm in study.tuned and arm not in study.choices):
            continue
        if not tried:
            untried.append(inline(study.label(arm)))
            continue
        where, means = tried
        best = max(means, key=means.get)
        among = ", ".join(f"{one:g}" for one in sorted(means))
        verdict = "the best" if best == rate else f"best was {best:g}"
        chosen.append(f"{inline(study.label(arm))} {rate:g} ({verdict} of {among} on validation images, {where})")
    parts = [
        f"Learning rates: {'; '.join(chosen)}." if chosen else "",
        f"No trial of its own chose that of {', '.join(untried)}." if untried else "",
    ]
    return " ".join(filter(None, parts))


def _rate(chain: list[dict]) -> float | None:
    """That of the last fit; None for a chain that ends without training."""
    return next((move["fit"]["lr"] for move in reversed(chain) if "fit" in move), None)


def _bare(chain: list[dict]) -> list[dict]:
    """The chain without the rate of its last fit, and without what folds up after it."""
    chain = deepcopy(chain)
    while chain and "fit" not in chain[-1]:
        chain.pop()
    if chain:
        chain[-1]["fit"].pop("lr")
    return chain


def _tried(records: Records, study: Study, arm: str) -> tuple[str, dict[float, float]] | None:
    """(where, mean validation accuracy by rate) of this study's own tuning, or of the first study of the project that chose the rate."""
    if arm in study.choices:
        return "tuned in the study itself", {variant.lr: variant.mean for variant in study.choices[arm].tried}
    for file in sorted((records.project / "ablations").glob("*.toml")):
        if 'on = "val"' not in file.read_text(encoding="utf-8"):
            continue
        other, report = records.study(file.stem), records.report(file.stem)
        if report is None or (other.data, other.build) != (study.data, study.build):
            continue
        alike = [name for name in other.arms if _bare(other.chains[name]) == _bare(study.chains[arm]) and report.values[name].notna().any()]
        if len(alike) > 1:
            return f"study [{file.stem}](../{file.stem}/report.md)", {
                _rate(other.chains[name]): float(report.values[name].mean()) for name in alike
            }
    return None
