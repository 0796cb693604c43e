"""A second look: further seeds of the same arms, in a study of their own, are read with the first as one, and nothing else is."""

import json
import re

import numpy as np
import pytest
from finished import Project, finish
from test_claim_pages import LADDER, RUNGS

from reducenet.cli import main
from reducenet.store import Store
from reducenet.study.claims.publish import publish
from reducenet.study.claims.records import Records
from reducenet.study.claims.register import ClaimError, read_register
from reducenet.study.claims.verdict import judge
from reducenet.study.plan import plan
from reducenet.study.report.statistics import paired
from reducenet.study.report.text import code

REGISTER = """
central = ["tiny"]
looks = 2

[all]
metric = "test accuracy"
margin = 0.5
family = "all"
rule = "as expected"

[claims.H1]
wording = "It helps."
chinese = "有用。"
study = "tiny"
second = "more"
pairs = [["two-1", "plain-as-two-1"]]
expects = ["higher"]
controls = ["teacher-2"]

[claims.H2]
wording = "It is there."
chinese = "在。"
study = "tiny"
pairs = [["two-2", "plain-as-two-2"]]
expects = ["higher"]
"""
MORE = """extends = "tiny"
only = ["plain-1", "teacher-1", "two-1", "plain-as-two-1", "teacher-2", "two-2", "plain-as-two-2"]
title = "more"
compare = { baseline = "plain-1" }
first_seed = 8
"""


def noisy(arm: str, seed: int) -> float:
    """two-1 is 0.6 points above its rival on the first eight seeds, 1.4 on the next; every seed has a number of its own."""
    base = {"two-1": 0.786 if seed < 8 else 0.794, "plain-as-two-1": 0.78}.get(arm, 0.75)
    return base + round(np.random.default_rng([seed, len(arm)]).normal(0, 0.004), 4)


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    """A published study of eight seeds, one of eight more of some of its arms, and a register that reads them."""
    made = Project(tmp_path_factory.mktemp("looked"), LADDER + RUNGS, accuracy=noisy)
    made.report()
    again = made.file.with_name("more.toml")
    again.write_text(MORE, encoding="utf-8")
    finish(plan(again), Store(again.parent / "store"), noisy)
    claims = made.folder / "ablations" / "claims"
    claims.mkdir()
    (claims / "register.toml").write_text(REGISTER, encoding="utf-8")
    assert main(["publish", str(again)]) == 0
    return made


def judged(project: Project, text: str = REGISTER):
    records = Records(project.folder)
    file = project.folder / "ablations" / "claims" / "register.toml"
    file.write_text(text, encoding="utf-8")
    return judge(records, read_register(records))


def test_a_second_look_reads_the_seeds_of_both_studies_as_one(looked):
    found, records = judged(looked), Records(looked.folder)
    parts = [paired(records.report(name).values, "two-1", "plain-as-two-1") for name in ("tiny", "more")]
    c = found["H1"].contrasts[0]
    assert [len(part) for part in parts] == [8, 8]
    assert parts[1].mean() - parts[0].mean() > 0.4
    assert (c.n, c.mean) == (16, pytest.approx(np.concatenate(parts).mean()))
    assert found["H1"].images.n == 16
    assert found["H1"].regime.endswith("seeds 0 to 7, then 8 to 15")
    assert found["H2"].contrasts[0].n == 8  # more has these arms too, and this claim is not asked again
    once = judged(looked, REGISTER.replace('second = "more"\n', ""))
    assert once["H1"].contrasts[0].n == 8
    assert once["H1"].contrasts[0].mean == pytest.approx(parts[0].mean())
    assert {each["H1"].contrasts[0].family for each in (found, once)} == {4}  # two pairs, twice each, whether or not they are


def test_a_second_look_that_has_not_been_run_changes_nothing(looked):
    again = looked.folder / "ablations" / "later.toml"
    again.write_text(MORE.replace("first_seed = 8", "first_seed = 40"), encoding="utf-8")
    found = judged(looked, REGISTER.replace('"more"', '"later"'))["H1"]
    publish(looked.folder)
    text = (looked.folder / "reports" / "claims" / "H1.md").read_text(encoding="utf-8")
    assert "seeds 40 to 47 are to be run" in text
    assert "../later/" not in text
    assert found.regime.endswith("seeds 0 to 7")
    assert found.contrasts == judged(looked, REGISTER.replace('second = "more"\n', ""))["H1"].contrasts
    again.unlink()


def test_the_page_of_a_claim_tells_of_its_second_look_and_links_every_run(looked):
    judged(looked)
    publish(looked.folder)
    pages = looked.folder / "reports" / "claims"
    text = (pages / "H1.md").read_text(encoding="utf-8")
    assert "seeds 8 to 15 were run ([study more](../more/report.md))" in text
    assert "reducenet reproduce more" in text
    assert "[more](../more/report.md). All minus" in text
    links = re.findall(r"\]\((\.\./\w+/runs/[^)]*)\)", text)
    assert len(links) == 32
    assert sum("/more/" in link for link in links) == 16
    assert all((pages / link).is_file() for link in links)
    for seed, ours, theirs in re.findall(r"^\| (\d+) \| \[([\d.]+)\]\S* \| \[([\d.]+)\]", text, flags=re.MULTILINE):
        assert float(ours) == pytest.approx(100 * noisy("two-1", int(seed)), abs=0.011)
        assert float(theirs) == pytest.approx(100 * noisy("plain-as-two-1", int(seed)), abs=0.011)
    assert "second" not in (pages / "H2.md").read_text(encoding="utf-8").split("## What decides it")[0]
    told = {row["claim"]: row for row in json.loads((pages / "verdicts.json").read_text())["rows"]}
    assert (told["H1"]["n"], told["H2"]["n"]) == (16, 8)
    assert code("more") not in (pages / "report.md").read_text(encoding="utf-8")  # its hours are known, and it has a link


WRONG = [
    ("looks = 2", "", "claims.H1: second: a contrast may be read once here; `looks = 2` lets it be read again"),
    ('second = "more"', 'second = "tiny"', "claims.H1: second: study tiny has seed 0, as tiny has; set its first_seed apart"),
    ('second = "more"', 'second = "mor"', "claims.H1: "),
    ('second = "more"', "second = 3", "claims.H1: second"),
    (
        '["two-2", "plain-as-two-2"]',
        '["two-1", "plain-as-two-1"]',
        "claims.H2: second: two-1 minus plain-as-two-1 is a pair of H1 too: 'more' there, none here",
    ),
    ('second = "more"\npairs = [["two-1"', 'pairs = [["two-1"', ""),
    ('pairs = [["two-2", "plain-as-two-2"]]', "", "second look or replications"),
    (
        'study = "tiny"\npairs = [["two-2", "plain-as-two-2"]]',
        'study = "every row"\nsecond = "more"\nexact = { studies = ["tiny"], columns = ["fuse_error"], within = 1.0 }',
        "claims.H2: it is `exact`, so there are no pairs, no controls and no second look",
    ),
]


@pytest.mark.parametrize(("there", "instead", "says"), WRONG)
def test_a_wrong_second_look_in_the_register_is_one_line(looked, there, instead, says):
    assert there in REGISTER
    text = REGISTER.replace(there, instead)
    if not says:
        assert judged(looked, text)["H1"].claim.second == ""
        return
    if "pairs" in there and not instead:
        text = text.replace('chinese = "在。"\nstudy = "tiny"', 'chinese = "在。"\nstudy = "none yet: arms"\nsecond = "more"')
    with pytest.raises(ClaimError) as caught:
        judged(looked, text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


OTHERS = [
    (', "plain-as-two-1"', "", "study other has no arm 'plain-as-two-1'"),
    ("title", "fit = { lr = 0.3 }\ntitle", "arm 'two-1' of study other is not that of tiny"),
    ("title", "build = { width = 5 }\ntitle", "arm 'two-1' of study other is not that of tiny"),
    ("title", 'data = "fashion-mini"\ntitle', "data of study other is 'fashion-mini', and of tiny 'synthetic'"),
    ("title", "threads = 2\ntitle", "threads of study other is 2, and of tiny 1"),
    ("first_seed = 8", "first_seed = 7", "study other has seed 7, as tiny has; set its first_seed apart"),
]


@pytest.fixture
def other(looked):
    file = looked.folder / "ablations" / "other.toml"
    yield file
    file.unlink()


@pytest.mark.parametrize(("there", "instead", "says"), OTHERS)
def test_what_is_read_as_one_has_to_be_one(looked, other, there, instead, says):
    assert there in MORE
    other.write_text(MORE.replace(there, instead), encoding="utf-8")
    with pytest.raises(ClaimError) as caught:
        judged(looked, REGISTER.replace('"more"', '"other"'))
    assert says in str(caught.value)


def test_arms_that_an_arm_stands_on_have_to_be_the_same_too(looked, other):
    """`plain-as-two-1` says `cost_of = "two-1"` in both: its own sentence is the same, and what it buys is not."""
    longer = '[arms.two-1]\nafter = "teacher-1"\nchain = ["drop_branch", { fit = { epochs = 3 } }]\n'
    other.write_text(MORE.replace('"two-1", ', "") + longer, encoding="utf-8")
    text = REGISTER.replace('"more"', '"other"').replace('["two-1", "plain-as-two-1"]', '["plain-as-two-1", "plain-1"]')
    with pytest.raises(ClaimError, match="arm 'two-1' of study other is not that of tiny"):
        judged(looked, text)
