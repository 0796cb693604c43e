"""The register of claims is strict, whole and in two languages; a verdict follows its rule and makes no comparison of its own."""

import re
from dataclasses import replace

import pytest

from reducenet.course import claims, own
from reducenet.course.choosing import Choosing, paired_rows
from reducenet.course.claims import Claim, ClaimError, Verdict, register, verdict
from reducenet.course.evidence import Evidence, project
from reducenet.study.read import StudyError
from reducenet.study.report.statistics import Contrast, Reading

ALL = {"metric": "test accuracy", "margin": 0.5, "family": "all", "rule": "as expected"}


def test_every_claim_of_the_article_is_there_in_both_languages():
    found = register()
    assert {f"H{number}" for number in range(1, 21)} <= set(found)
    assert len({claim.wording for claim in found.values()}) == len({claim.chinese for claim in found.values()}) == len(found)
    for claim in found.values():
        assert claim.wording.endswith(".")
        assert re.fullmatch(r".*[\u4e00-\u9fff].*。", claim.chinese)
        assert not re.search(r"[\u4e00-\u9fff]", claim.wording)


def test_every_claim_names_arms_that_exist_or_says_what_is_missing():
    for claim in register().values():
        if claim.held:
            study = Evidence(claim.study).study
            assert set(claim.arms) <= set(study.arms)
            for arm, other in claim.pairs:
                assert other == study.compare.baseline or [arm, other] in study.compare.also
        else:
            assert claim.study.startswith("none yet: ")
            assert verdict(claim).text.startswith("not decided yet: no rows (")


REGISTER = """
[all]
metric = "test accuracy"
margin = 0.5
family = "all"
rule = "as expected"

[claims.H1]
wording = "It helps."
chinese = "有用。"
study = "quick"
pairs = [["drop-fc", "plain-long"]]
expects = ["higher"]
controls = ["drop-ce"]
"""
MISTAKES = [
    ('wording = "It helps."', "", "claims.H1: wording: is missing"),
    ('chinese = "有用。"', 'chinese = ""', "claims.H1: chinese"),
    ('chinese = "有用。"', 'chinese = "有用。"\nchinois = "有用。"', "claims.H1: unknown key 'chinois' (did you mean 'chinese'?)"),
    ('study = "quick"', 'study = "quik"', "claims.H1: "),
    ('"drop-fc", "plain-long"', '"drop-fx", "plain-long"', "claims.H1: unknown arm 'drop-fx' (did you mean 'drop-fc'?)"),
    ('"drop-fc", "plain-long"', '"drop-fc", "teacher"', "claims.H1: study quick does not compare 'drop-fc' with 'teacher'"),
    ('"drop-fc", "plain-long"', '"plain", "plain"', "claims.H1: study quick does not compare 'plain' with 'plain'"),
    ('"drop-fc", "plain-long"', '"drop-fc"', "claims.H1: pairs"),
    ('controls = ["drop-ce"]', 'controls = ["drop-cee"]', "claims.H1: unknown arm 'drop-cee' (did you mean 'drop-ce'?)"),
    ('expects = ["higher"]', 'expects = ["better"]', "claims.H1: "),
    ('expects = ["higher"]', "expects = []", "claims.H1: expects"),
    ("margin = 0.5", "margin = 1.0", "claims.H1: margin 1 is not that of study quick, 0.5"),
    ("margin = 0.5", 'margin = "0.5"', "claims.H1: margin"),
    ("[all]", "[every]", "unknown table 'every'; known: all, claims"),
    ('pairs = [["drop-fc", "plain-long"]]', "", "`study` says in words what is missing"),
    ("[claims.H1]", "[claims.H1", "cannot be read as TOML"),
]


@pytest.mark.parametrize(("there", "instead", "says"), MISTAKES)
def test_a_mistake_in_the_register_is_one_line(tmp_path, there, instead, says):
    file = tmp_path / "register.toml"
    file.write_text(REGISTER, encoding="utf-8")
    assert list(register(file)) == ["H1"]
    file.write_text(REGISTER.replace(there, instead), encoding="utf-8")
    with pytest.raises(ClaimError) as caught:
        register(file)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def contrast(reading, n=8, mean=1.0):
    return Contrast("a", "b", n, mean, mean - 0.1, mean + 0.1, 0.01, 0.5, 0.7, Reading(reading))


@pytest.mark.parametrize(
    ("expects", "readings", "says"),
    [
        (["higher"], ["higher"], "supported"),
        (["higher"], ["higher", "higher"], "supported"),
        (["higher"], ["lower"], "refuted"),
        (["higher"], ["higher", "lower"], "refuted"),
        (["higher"], ["undecided", "lower"], "refuted"),
        (["higher"], ["equivalent"], "equivalent within 0.5 points: no such difference"),
        (["higher"], ["undecided", "equivalent"], "equivalent within 0.5 points: no such difference"),
        (["higher"], ["higher", "undecided"], "undecided (would have found 0.7 points with 80 % power)"),
        (["equivalent", "lower"], ["equivalent"], "supported"),
        (["equivalent", "lower"], ["lower", "equivalent"], "supported"),
        (["equivalent", "lower"], ["higher"], "refuted"),
    ],
)
def test_a_verdict_follows_the_rule(expects, readings, says):
    claim = Claim(id="H0", wording="w", chinese="中", study="quick", pairs=[["a", "b"]] * len(readings), expects=expects, **ALL)
    kind, text = claims._decided(claim, tuple(map(contrast, readings)))
    assert text == says
    assert says.startswith(kind)
    assert Verdict(claim, kind, text).mark in "▲▼=?"


def test_nothing_is_decided_with_too_few_seeds_or_without_a_control(monkeypatch):
    """The same rows, as if they had 8 seeds: the controls decide whether there is a verdict."""
    claim = next(claim for claim in register().values() if claim.study == "quick")
    report = Evidence("quick").report
    few = min(report.contrast(*pair).n for pair in claim.pairs)
    monkeypatch.setattr(claims, "CLAIM", few + 1)
    assert verdict(claim).text == f"not decided yet ({few} of {few + 1} seeds)"
    monkeypatch.setattr(claims, "CLAIM", few)
    assert claim.missing
    assert verdict(claim).text.startswith(f"not decided yet: {len(claim.missing)} controls missing ({claim.missing[0]}")
    whole = claim.model_copy(update={"missing": []})
    assert verdict(whole).kind in ("supported", "refuted", "equivalent", "undecided")
    found = verdict(whole).contrasts[0]
    assert found == report.contrast(*claim.pairs[0])  # the study's own, adjusted over its family
    no_rows = replace(found, n=0)
    assert no_rows.n == 0


def test_the_table_has_a_row_for_every_claim():
    lines = claims.table().data.splitlines()
    assert len(lines) == 2 + len(register())
    assert len(claims.table("H1", "H5").data.splitlines()) == 4


# --- choosing among recorded rows ------------------------------------------------------------


def test_the_dropdowns_offer_what_the_study_compares():
    evidence = Evidence("quick")
    assert evidence.against("drop-fc") == ["plain-long", "plain"]
    assert evidence.against("teacher") == ["plain"]
    assert evidence.against("plain") == []
    box = Choosing(evidence)
    assert "plain" not in [arm for _, arm in box.arm.options]
    for _, arm in box.arm.options:
        box.arm.value = arm
        assert [other for _, other in box.other.options] == evidence.against(arm)
        for other in evidence.against(arm):
            box.other.value = other
            rows = paired_rows(evidence, arm, other)
            assert box.table.value.count("<tr>") == 1 + len(rows)
            assert all(d == pytest.approx(a - b) for _, a, b, d in rows)
            assert evidence.study.label(arm) in box.reading.value
            assert "**" not in box.reading.value
    assert all(box.description for box in (box.arm, box.other))


def test_choosing_without_rows_says_so(monkeypatch):
    evidence = Evidence("quick")
    evidence.report = None
    box = Choosing(evidence, "drop-fc")
    assert "Not decided yet" in box.reading.value
    assert box.table.value.count("<tr>") == 1


# --- an arm of one's own ------------------------------------------------------------


@pytest.mark.engine
@pytest.mark.slow  # page 06 does it too
def test_an_arm_of_ones_own_is_played_and_reported():
    before = sorted(file.name for file in (project() / "reports").iterdir())
    report = own.play_own('[arms.mine]\nlabel = "mine"\nchain = [{ build = "plain" }, "fit", "recalibrate"]', seeds=1)
    assert list(report.values) == ["plain", "mine"]
    assert report.values.notna().all().all()
    assert own.sentence(report).startswith("No result: 1 seed")
    assert sorted(file.name for file in (project() / "reports").iterdir()) == before


def test_an_arm_that_makes_no_sense_is_one_line():
    with pytest.raises(StudyError, match="unknown move 'drop_brunch'|drop_brunch"):
        own.play_own('[arms.mine]\nchain = [{ build = "plain" }, "drop_brunch"]')
