"""The register of claims is strict, whole and in two languages; what was registered is kept, and what is said otherwise since is listed."""

import json
import re

import pytest

from reducenet.course import own
from reducenet.course.choosing import Choosing, paired_rows
from reducenet.course.evidence import Evidence, project
from reducenet.study.claims import registered, say
from reducenet.study.claims.records import Records, compared_with
from reducenet.study.claims.register import ClaimError, read_register
from reducenet.study.read import StudyError


@pytest.fixture(scope="module")
def records():
    return Records(project())


@pytest.fixture(scope="module")
def claims(records):
    return read_register(records).claims


def test_every_claim_of_the_article_is_there_in_both_languages(claims):
    assert {f"H{number}" for number in range(1, 21)} <= set(claims)
    assert len({claim.wording for claim in claims.values()}) == len({claim.chinese for claim in claims.values()}) == len(claims)
    for claim in claims.values():
        assert claim.wording.endswith(".")
        assert re.fullmatch(r".*[\u4e00-\u9fff].*。", claim.chinese)
        assert not re.search(r"[\u4e00-\u9fff]", claim.wording)


def test_every_claim_names_arms_that_exist_or_says_what_is_missing(claims, records):
    for claim in claims.values():
        if claim.held:
            assert set(claim.arms) <= set(records.study(claim.study).arms)
            for study in (claim.study, *claim.replicate):
                assert all(against in compared_with(records.study(study), arm) for arm, against in claim.pairs)
        else:
            assert claim.exact or claim.study.startswith("none yet: ")


REGISTER = """
central = ["budget"]

[planned]
quick-again = 0.1

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
replicate = ["quick-again"]

[claims.H2]
wording = "It is exact."
chinese = "精确。"
study = "every row says so"
expects = ["equivalent"]
exact = { studies = ["quick"], columns = ["fuse_error"], within = 1e-10 }
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
    ("[all]", "[every]", "unknown table 'every'; known: all, central, claims, looks, planned"),
    ('central = ["budget"]', 'looks = 0\ncentral = ["budget"]', "looks: must be a whole number at least 1, not 0"),
    ('central = ["budget"]', 'looks = true\ncentral = ["budget"]', "looks: must be a whole number at least 1, not True"),
    ('central = ["budget"]', 'looks = "2"\ncentral = ["budget"]', "looks: must be a whole number at least 1, not '2'"),
    ('pairs = [["drop-fc", "plain-long"]]', "", "`study` says in words what is missing"),
    ("[claims.H1]", "[claims.H1", "cannot be read as TOML"),
    (
        'replicate = ["quick-again"]',
        'replicate = ["quick"]',
        "claims.H1: replicate: study quick has seed 0, as quick has; set its first_seed apart",
    ),
    (
        'replicate = ["quick-again"]',
        'replicate = ["side"]',
        "claims.H1: replicate: study side does not compare 'drop-fc' with 'plain-long'",
    ),
    ('replicate = ["quick-again"]', 'replicate = ["quick-agin"]', "claims.H1: "),
    ('study = "quick"', 'study = "quick"\nnotebooks = ["07"]', "claims.H1: unknown notebook '07'; known: 00_start_here, "),
    ('replicate = ["quick-again"]', 'beside = ["quick-agin"]', "claims.H1: "),
    ('study = "every row says so"', 'study = "every row says so"\nbeside = ["quick-agin"]', "claims.H2: "),
    ("within = 1e-10", "within = 0.0", "claims.H2: exact.within"),
    ("within = 1e-10", "within = 1e-10, without = 1", "claims.H2: unknown key 'without' (did you mean 'within'?)"),
    ('columns = ["fuse_error"]', 'columns = ["test_accuracy"]', "claims.H2: unknown exact.columns.0 'test_accuracy'"),
    ('studies = ["quick"]', "studies = []", "claims.H2: exact.studies"),
    (
        'study = "every row says so"',
        'study = "quick"\npairs = [["drop-fc", "plain-long"]]',
        "claims.H2: it is `exact`, so there are no pairs",
    ),
    ('central = ["budget"]', 'central = ["buget"]', "central: "),
    ('central = ["budget"]', 'central = "budget"', "central: must be a list of studies"),
    ('central = ["budget"]', "", "central: must be a list of studies"),
    ("quick-again = 0.1", "quick-agin = 0.1", "planned: "),
    ("quick-again = 0.1", "quick-again = -1", "planned.quick-again: must be core hours, a number above 0, not -1"),
    ("quick-again = 0.1", 'quick-again = "soon"', "planned.quick-again: must be core hours"),
]


@pytest.mark.parametrize(("there", "instead", "says"), MISTAKES)
def test_a_mistake_in_the_register_is_one_line(tmp_path, records, there, instead, says):
    file = tmp_path / "register.toml"
    file.write_text(REGISTER, encoding="utf-8")
    assert list(read_register(records, file).claims) == ["H1", "H2"]
    assert there in REGISTER
    file.write_text(REGISTER.replace(there, instead), encoding="utf-8")
    with pytest.raises(ClaimError) as caught:
        read_register(records, file)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_register_is_read_where_no_page_of_the_course_is(tmp_path, claims):
    (tmp_path / "ablations").symlink_to(project() / "ablations")
    (tmp_path / "reports").symlink_to(project() / "reports")
    assert read_register(Records(tmp_path)).claims == claims
    named = claims["H1"].notebooks
    assert [link for _, link in say.course_pages(project(), named)] == [f"../../notebooks/{name}.ipynb" for name in named] != []
    assert say.course_pages(tmp_path, named) == []


# --- what was registered ---------------------------------------------------------------------


def test_what_was_registered_is_whole_and_every_change_since_is_a_deviation(claims):
    then = registered.registered(project())
    assert set(then) == set(claims), "reducenet claims --register"
    for name, claim in claims.items():
        listed = registered.deviations(claim, then)
        now = registered.fixed(claim)
        changed = [field for field in registered.FIXED if (then[name].get(field) or None) != (now[field] or None)]
        assert [line.split(":")[0] for line in listed if ": was " in line] == changed
        assert any("had been seen" in line for line in listed) == bool(then[name][registered.SEEN])


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, []),
        ({"margin": 1.0}, ["margin: was 0.5, is 1.0"]),
        ({"expects": ["higher", "equivalent"]}, ["expects: was higher, is higher; equivalent"]),
        ({"pairs": [["drop-ce", "plain-long"]]}, ["pairs: was drop-fc minus plain-long, is drop-ce minus plain-long"]),
        ({"controls": []}, ["controls: was drop-ce, is nothing"]),
        ({"wording": "It helps\nmuch."}, ["wording: was “It helps.”, is “It helps much.”"]),
        ({"chinese": "很有用。", "replicate": []}, []),
    ],
)
def test_a_change_is_said_with_what_it_was(tmp_path, records, changed, says):
    (tmp_path / "register.toml").write_text(REGISTER, encoding="utf-8")
    claim = read_register(records, tmp_path / "register.toml").claims["H1"]
    told = {"H1": registered.fixed(claim) | {registered.SEEN: 0}}
    assert registered.deviations(claim.model_copy(update=changed), told) == says
    assert registered.deviations(claim, {}) == ["not registered"]
    assert registered.deviations(claim, {"H1": told["H1"] | {registered.SEEN: 5}}) == [
        "5 paired seeds had been seen when it was registered"
    ]


def test_registering_takes_what_is_new_and_changes_nothing_else(tmp_path):
    """A project without rows: a claim, then one more, then the first changed, then the second gets its contrast."""
    from studies import TINY, make

    make(tmp_path, TINY)
    file = tmp_path / "ablations" / "claims" / "register.toml"
    file.parent.mkdir()
    head = 'central = ["tiny"]\n[all]\nmetric = "test accuracy"\nmargin = 0.5\nfamily = "all"\nrule = "as expected"\n'
    first = '[claims.A]\nwording = "a."\nchinese = "甲。"\nexpects = ["higher"]\nstudy = "tiny"\npairs = [["drop", "plain"]]\n'
    second = '[claims.B]\nwording = "b."\nchinese = "乙。"\nexpects = ["higher"]\n'
    waiting, held = 'study = "none yet: an arm"\n', 'study = "tiny"\npairs = [["lora", "plain"]]\n'
    assert registered.digest(tmp_path) == ""
    file.write_text(head + first, encoding="utf-8")
    assert registered.take(tmp_path) == ["A"]
    before = registered.digest(tmp_path)
    assert registered.take(tmp_path) == []
    file.write_text(head + first.replace('"higher"', '"lower"') + second + waiting, encoding="utf-8")
    assert registered.take(tmp_path) == ["B"]
    assert registered.registered(tmp_path)["A"]["expects"] == ["higher"]  # as it was
    assert registered.digest(tmp_path) != before
    file.write_text(head + first + second + held, encoding="utf-8")
    assert registered.take(tmp_path) == ["B"]
    assert registered.registered(tmp_path)["B"]["pairs"] == [["lora", "plain"]]
    file.write_text(head + first + second + held.replace("lora", "drop"), encoding="utf-8")
    assert registered.take(tmp_path) == []
    registered.place(tmp_path).write_text("{", encoding="utf-8")
    with pytest.raises(ClaimError, match=r"registered\.json: cannot be read as JSON"):
        registered.digest(tmp_path)


def test_seeds_seen_are_those_that_were_published_by_then(records, claims):
    looks = [records.report(name).contrast("frozen", "plain-long").n for name in ("classifier", "classifier-second")]
    assert registered.seen(claims["H5"], records) == sum(looks) == 16
    assert registered.seen(claims["H5"].model_copy(update={"second": ""}), records) == looks[0] == 8
    assert registered.seen(claims["H5"].model_copy(update={"study": "cifar10", "second": ""}), records) == 0  # nothing is published of it
    json.dumps(registered.fixed(claims["H20"]))


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
