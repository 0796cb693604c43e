"""What is said of how learning rates were chosen: from recorded trials, and no more than they say."""

import shutil

import pandas as pd
from studies import ROOT

from reducenet.study.claims import rates
from reducenet.study.claims.records import Records
from reducenet.study.read import read

RECORDS = Records(ROOT)
RECIPE = ROOT / "reports" / "recipe"


def test_a_rate_that_the_study_chose_stands_among_those_that_it_tried():
    study = RECORDS.study("rank-again")
    means = {one.lr: one.mean for one in study.choices["plain"].tried}
    best = max(means, key=means.get)
    among = ", ".join(f"{lr:g}" for lr in sorted(means))
    said = rates.said(RECORDS, study, ["plain"])
    assert said == f"Learning rates: plain student {best:g} (the best of {among} on validation images, tuned in the study itself)."


def test_an_arm_whose_rate_nothing_chose_is_said_to_have_none_chosen():
    study = RECORDS.study("rank-again")
    assert rates.said(RECORDS, study, ["rank"]) == "No trial of its own chose that of side branch, rank 2, at 0.02."
    assert rates.said(RECORDS, study, ["rank", "plain"]).startswith("Learning rates: plain student")
    assert rates.said(RECORDS, study, ["rank", "plain"]).endswith(" No trial of its own chose that of side branch, rank 2, at 0.02.")


def test_an_arm_that_waits_for_its_rate_or_never_trains_has_none_to_tell_of():
    study = RECORDS.study("rank-again")
    assert rates.said(RECORDS, study.chosen({}), ["plain", "side"]) == ""
    assert rates.said(RECORDS, RECORDS.study("branch"), ["estimated"]) == ""
    untrained = study.of({"untrained": study.chains["plain"][:1]})
    assert rates.said(RECORDS, untrained, ["untrained"]) == ""


def told(best: float, given: float, tried: list[float]) -> str:
    verdict = "the best" if best == given else f"best was {best:g}"
    among = ", ".join(f"{lr:g}" for lr in tried)
    return f"Learning rates: plain student {given:g} ({verdict} of {among} on validation images, study [recipe](../recipe/report.md))."


def plain_trials() -> pd.DataFrame:
    rows = pd.read_csv(RECIPE / "results.csv")
    return rows[rows.arm.str.fullmatch(r"plain-[\d.]+")]


def test_without_a_trial_of_its_own_a_study_is_told_what_another_one_found():
    means = plain_trials().groupby("arm").val_accuracy.mean()
    found = {float(arm.removeprefix("plain-")): mean for arm, mean in means.items()}
    study, best = RECORDS.study("quick"), max(found, key=found.get)
    assert rates.said(RECORDS, study, ["plain"]) == told(best, 0.4, sorted(found))
    chosen = study.of({"plain": [study.chains["plain"][0], {"fit": study.chains["plain"][1]["fit"] | {"lr": best}}]})
    assert rates.said(RECORDS, chosen, ["plain"]) == told(best, best, sorted(found)).replace("plain student", "plain")


def test_two_rates_are_a_trial_and_one_or_none_is_not(tmp_path):
    shutil.copytree(ROOT / "ablations", tmp_path / "ablations", ignore=shutil.ignore_patterns("store"))
    nothing = "No trial of its own chose that of plain student."
    assert rates.said(Records(tmp_path), RECORDS.study("quick"), ["plain"]) == nothing
    shutil.copytree(RECIPE, tmp_path / "reports" / "recipe", ignore=shutil.ignore_patterns("answers.npz"))
    for arms in (["plain-0.4"], ["plain-0.1", "plain-0.4"]):
        rows = plain_trials()
        rows[rows.arm.isin(arms)].to_csv(tmp_path / "reports" / "recipe" / "results.csv", index=False)
        means = rows[rows.arm.isin(arms)].groupby("arm").val_accuracy.mean()
        best = float(means.idxmax().removeprefix("plain-"))
        said = rates.said(Records(tmp_path), RECORDS.study("quick"), ["plain"])
        assert said == (nothing if len(arms) == 1 else told(best, 0.4, [0.1, 0.4]))


def test_a_trial_in_another_regime_is_no_trial_of_this_one():
    nothing = "No trial of its own chose that of plain student."
    assert rates.said(RECORDS, RECORDS.study("quick-wider"), ["plain"]) == nothing
    full = read(ROOT / "ablations" / "quick.toml", data="fashion-mnist")
    assert rates.said(RECORDS, full, ["plain"]) == nothing
