"""The pages of the claims: made of rows and of nothing else, whatever people write; the central figure; what is committed."""

import json
import re
import shutil

import numpy as np
import pytest
from finished import Project, files
from studies import ROOT
from test_browser import ARGUMENTS, CHROMIUM

from reducenet.cli import main
from reducenet.study.claims import central, publish
from reducenet.study.claims.records import Records
from reducenet.study.claims.verdict import KINDS
from reducenet.study.report import runs
from reducenet.study.report.statistics import compare

LADDER = """
title = "budgets"
data = "synthetic"
seeds = 8
threads = 1
together = 1
device = "cpu"
build = { width = 4 }

[compare]
baseline = "plain-1"
also = [["two-1", "plain-as-two-1"], ["two-2", "plain-as-two-2"]]
steps = [["two-1", "plain-as-two-1"], ["two-2", "plain-as-two-2"]]
"""
RUNGS = "".join(
    f"""
[arms.plain-{n}]
label = "plain student, {n} epochs"
chain = [{{ build = "plain" }}, {{ fit = {{ epochs = {n} }} }}]

[arms.teacher-{n}]
chain = [{{ build = {{ expansion = 2 }} }}, {{ fit = {{ epochs = {n} }} }}]

[arms.two-{n}]
label = "two stages, {n} epochs each"
after = "teacher-{n}"
chain = ["drop_branch", {{ fit = {{ epochs = {n} }} }}]

[arms.plain-as-two-{n}]
label = "plain student at the cost of {n} + {n}"
chain = [{{ build = "plain" }}, {{ fit = {{ cost_of = "two-{n}" }} }}]
"""
    for n in (1, 2)
)
NASTY = "a | <script>alert(1)</script> $x_1$ *b* [c](javascript:d) `e` & _f_ =1+1"
REGISTER = """
central = ["other", "tiny"]
[all]
metric = "test accuracy"
margin = 0.5
family = 'FAMILY'
rule = "as expected"
[claims.A]
wording = 'WORDING'
chinese = "甲。"
study = "tiny"
pairs = [["two-1", "plain-as-two-1"]]
expects = ["higher"]
controls = ["plain-1", "teacher-2"]
beside = ["tiny", "other"]
[claims.B]
wording = "b."
chinese = "乙。"
study = "none yet: WORDS"
expects = ["higher"]
[claims.C]
wording = "c."
chinese = "丙。"
study = "every row says so"
expects = ["equivalent"]
exact = { studies = ["tiny"], columns = ["fuse_error"], within = 1e-10 }
"""


def worth(arm: str, seed: int) -> float:
    base = {"two-1": 0.78, "two-2": 0.80, "plain-as-two-1": 0.80, "plain-as-two-2": 0.82}.get(arm, 0.75)
    return base + (seed * 7 % 5 - 2) / 1000 + (sum(arm.encode()) * (seed + 1) % 7 - 3) / 2000


def published(folder, wording: str, pages: bool = False, more: str = "") -> Project:
    """A project with a register, published; the pages of its runs only where they are asked for."""
    made = Project(folder, LADDER + RUNGS + more, accuracy=worth)
    claims = folder / "ablations" / "claims"
    claims.mkdir()
    shutil.copy(made.file, made.file.with_name("other.toml"))  # a study without rows: the central figure waits for it
    text = REGISTER.replace("WORDING", wording).replace("WORDS", wording).replace("FAMILY", wording)
    (claims / "register.toml").write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "CITATION.cff", folder)
    with pytest.MonkeyPatch.context() as patch:
        if not pages:
            patch.setattr(runs, "publish", lambda *_: None)
        made.report()
    return made


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    return published(tmp_path_factory.mktemp("nasty"), NASTY)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return published(tmp_path_factory.mktemp("plain"), "T.", pages=True)


def test_words_of_any_kind_neither_break_a_page_nor_run(nasty, plain):
    ours, theirs = (files(project.folder / "reports" / "claims") for project in (nasty, plain))
    assert set(ours) == set(theirs)
    script = (ROOT / "reducenet/study/claims/sort.js").read_text()
    for name in ours:
        if name.endswith(".html"):
            texts = [re.sub(r"<svg.*?</svg>", "<svg>", found[name].decode(), flags=re.DOTALL) for found in (ours, theirs)]
            skeletons = [re.findall(r"<(/?\w+)", text.replace(script, "")) for text in texts]
            assert skeletons[0] == skeletons[1], name
            assert texts[0].count("<script>") == (name == "index.html")
            assert "javascript:d" not in re.findall(r'href="([^"]*)"', texts[0])
            assert not re.search(r'(?:src|href)="(?:https?:)?//|@import', texts[0])
    shown = NASTY.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for name in ("index.html", "A.html", "paper.html"):
        assert shown in ours[name].decode()
    json.loads(ours["verdicts.json"])


def test_what_changes_one_thing_after_the_other_is_told_with_every_step(plain):
    claims, report = plain.folder / "reports" / "claims", (plain.out / "report.md").read_text()
    steps = re.findall(r"^\| step .*?\n\n", report, flags=re.MULTILINE | re.DOTALL)
    first = re.search(r"\*\*(.+?)\*\*", report).group(1)
    assert len(steps) == 1
    assert steps[0].count("minus plain student at the cost of") == 2
    assert steps[0] in (claims / "paper.md").read_text()
    for name, link in {"paper": "Study [tiny](../tiny/report.md), each step", "report": "[study tiny](../tiny/report.md)"}.items():
        text = (claims / f"{name}.md").read_text()
        assert text.count(link) == 1
        assert first in text


def test_the_paper_counts_what_is_open_among_its_threats(plain):
    claims = plain.folder / "reports" / "claims"
    kinds = [row["verdict"] for row in json.loads((claims / "verdicts.json").read_text())["rows"]]
    threats = re.search(r"## Threats\n\n(.*?)\n\n", (claims / "paper.md").read_text(), flags=re.DOTALL).group(1)
    for kind, said in {"not decided yet": "are not decided yet", "undecided": "stay undecided"}.items():
        assert re.findall(rf"- (\d+) of {len(kinds)} claims {said}", threats) == [str(kinds.count(kind))] * (kind in kinds)
    assert {"not decided yet", "undecided"} & set(kinds)


def test_a_claim_names_the_studies_of_further_controls_that_have_rows(plain):
    text = (plain.folder / "reports" / "claims" / "A.md").read_text()
    answer = re.search(r"\*\*(.+?)\*\*", (plain.out / "report.md").read_text()).group(1)
    assert re.findall(r"^Further controls: (.*)$", text, flags=re.MULTILINE) == [f"[budgets](../tiny/report.md) {answer}"]
    assert "Further controls" not in (plain.folder / "reports" / "claims" / "B.md").read_text()


def test_every_link_of_the_claims_leads_somewhere(plain):
    folder = plain.folder / "reports" / "claims"
    for name, content in files(folder).items():
        text = content.decode()
        links = re.findall(r'<a href="([^"]+)"', text) if name.endswith(".html") else re.findall(r"(?<!!)\[[^\]]*\]\(([^)]+)\)", text)
        for link in links if name.endswith((".html", ".md")) else ():
            assert (folder / link).resolve().is_file(), f"{name}: {link}"
    page = (folder / "A.html").read_text()
    for seed in range(8):  # overview -> claim -> run
        assert f'href="../tiny/runs/two-1.s{seed}.html"' in page
        assert f'href="../tiny/runs/plain-as-two-1.s{seed}.html"' in page


def test_verdicts_for_programs_have_the_columns_and_say_what_the_pages_say(plain):
    told = json.loads((plain.folder / "reports" / "claims" / "verdicts.json").read_text())
    rows = {row["claim"]: row for row in told["rows"]}
    assert all(tuple(row) == publish.COLUMNS for row in rows.values())
    contrast = Records(plain.folder).report("tiny").contrast("two-1", "plain-as-two-1")
    a = rows["A"]
    assert (a["verdict"], a["n"]) == ("refuted", 8)
    assert [a["estimate"], a["low"], a["high"]] == pytest.approx([contrast.mean, contrast.low, contrast.high], rel=1e-5)
    assert a["cost"] == pytest.approx(1.0)
    assert a["deviation"] == "not registered"
    assert (rows["B"]["verdict"], rows["B"]["n"], rows["B"]["estimate"]) == ("not decided yet", 0, None)
    assert (rows["C"]["verdict"], rows["C"]["n"], rows["C"]["estimate"], rows["C"]["margin"]) == ("supported", 64, 1e-14, 1e-10)
    page = (plain.folder / "reports" / "claims" / "report.md").read_text()
    assert [line.split("](")[0][3:] for line in page.splitlines() if line.startswith("| [") and ".md) | " in line][:3] == ["C", "A", "B"]
    assert "Of 3 claims: 1 supported, 1 refuted and 1 not decided yet." in page


def test_readme_opens_with_the_sentence_the_figure_and_the_counts(plain):
    text = plain.readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "stale" not in text
    sentence, figure, counts = text.split("\n\n")[:3]
    assert sentence.splitlines()[-1].startswith("**No, in none of 2 comparisons does training the large network first beat a plain student")
    assert figure.startswith("[![Test accuracy against the training cost")
    assert counts.startswith("Of the article's 3 claims: 1 supported, 1 refuted and 1 not decided yet.")
    version = json.loads((plain.folder / "reports" / "claims" / "verdicts.json").read_text())["version"]
    assert f'value: "{version}"' in (plain.folder / "CITATION.cff").read_text()
    assert version != json.loads((ROOT / "reports" / "claims" / "verdicts.json").read_text())["version"]


KD = """
[arms.kd-1]
label = "two stages, 1 epoch each, soft labels"
after = "teacher-1"
chain = ["drop_branch", { fit = { epochs = 1, loss = "kd", teacher = "teacher-1" } }]
"""


def test_the_ladders_are_read_from_the_arms(plain, tmp_path):
    report = Records(plain.folder).report("tiny")
    found = central.ladders(report)
    assert {name: [rung.arm for rung in rungs] for name, rungs in found.items()} == {
        "plain": ["plain-1", "plain-as-two-1", "plain-2", "plain-as-two-2"], "two": ["two-1", "two-2"],
    }  # fmt: skip
    assert [central.label(report, rungs) for rungs in found.values()] == ["plain student", "two stages"]
    assert [rung.macs for rung in found["two"]] == [2000, 4000]  # the teacher's training included
    svg = central.central(report).svg
    assert svg.count(">two stages</text>") == 1
    more = Records(published(tmp_path, "T.", more=KD).folder).report("tiny")
    assert [central.label(more, rungs) for rungs in central.ladders(more).values()] == [
        "plain student", "two stages", "two stages, soft labels",
    ]  # fmt: skip
    assert central.central(more).svg.count(">two stages, soft labels</text>") == 1


@pytest.mark.parametrize(
    ("shift", "noise", "says"),
    [
        (
            0.0,
            0.0,
            r"No, in none of 2 comparisons does .* spends no more: two stages −1\.8 and −2\.1 points, from the cheapest .*dearest\.",
        ),
        (8.0, 0.0, r"Yes, in 2 of 2 comparisons does .*: two stages \+\d\.\d and \+\d\.\d points"),
        (2.0, 9.0, r"Not decided: two stages [+−]\d\.\d and [+−]\d\.\d points"),
    ],
)
def test_the_sentence_follows_the_rows(plain, shift, noise, says):
    report = Records(plain.folder).report("tiny")
    for arm in ("two-1", "two-2"):
        report.values[arm] += shift + noise * np.random.default_rng(0).normal(0, 1, 8)
    report.contrasts = compare(report.values, "plain-1", 0.5, report.study.compare.also)
    assert re.match(says, central.sentence(report)), central.sentence(report)
    report.values.loc[4:, "two-2"] = np.nan
    report.contrasts = compare(report.values, "plain-1", 0.5, report.study.compare.also)
    assert central.sentence(report) == "No result yet: a number needs 5 paired seeds at every budget."


def test_a_register_in_a_project_without_one_is_no_error(tmp_path, capsys):
    project = Project(tmp_path)
    project.report()
    assert not (tmp_path / "reports" / "claims").exists()


# --- what is committed ---------------------------------------------------------------------------


def test_the_committed_claims_are_what_their_rows_make(tmp_path):
    told = publish.gather(ROOT)
    publish.pages.render(told, tmp_path / "claims")
    committed, cure = files(ROOT / "reports" / "claims"), "stale: reducenet claims --publish"
    made = files(tmp_path / "claims")
    assert set(committed) == {*made, "verdicts.json"}, cure
    for name in made:
        if name.endswith(".md"):
            assert made[name] == committed[name], f"{name} {cure}"
    assert json.loads(committed["verdicts.json"]) == publish.verdicts_json(told), cure
    assert publish.START + publish.opening(told) + publish.END in (ROOT / "README.md").read_text(encoding="utf-8"), cure
    assert f'"{told.version}"' in (ROOT / "CITATION.cff").read_text(encoding="utf-8"), cure
    assert len(told.verdicts) >= 20
    for name, found in told.verdicts.items():
        if found.kind in ("supported", "refuted", "equivalent", "undecided") and not found.claim.exact:
            assert min(c.n for c in found.contrasts) >= 8, name


def test_claims_on_the_command_line_have_a_line_each(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(["claims"]) == 0
    said = capsys.readouterr().out
    assert all(f" {name} " in said for name in publish.gather(ROOT).verdicts)


@pytest.mark.engine
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium or Chrome")
def test_the_overview_is_sorted_and_filtered_by_hand():
    from playwright.sync_api import sync_playwright

    told = {row["claim"]: row for row in json.loads((ROOT / "reports" / "claims" / "verdicts.json").read_text())["rows"]}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        view, errors = browser.new_page(viewport={"width": 390, "height": 844}), []
        view.on("pageerror", lambda error: errors.append(error))
        view.goto((ROOT / "reports" / "claims" / "index.html").as_uri())
        assert view.evaluate("document.documentElement.scrollWidth") == 390
        view.set_viewport_size({"width": 1280, "height": 800})
        assert view.evaluate("document.documentElement.scrollWidth") == 1280
        table = view.locator("h2 ~ .wide table").first
        names = "[...document.querySelector('h2 ~ .wide tbody').rows].filter((row) => !row.hidden).map((row) => row.cells[0].innerText)"
        assert sorted(view.evaluate(names)) == sorted(told)
        for kind, mark in KINDS.items():
            if there := [name for name, row in told.items() if row["verdict"] == kind]:
                button = view.get_by_role("button", name=f"{mark} {kind} ({len(there)})")
                button.click()
                assert sorted(view.evaluate(names)) == sorted(there)
                assert button.get_attribute("aria-pressed") == "true"
        view.get_by_role("button", name=f"all ({len(told)})").click()
        table.get_by_role("button", name="points", exact=True).click()
        known = [name for name in view.evaluate(names) if told[name]["low"] is not None]
        assert [told[name]["estimate"] for name in known] == sorted(told[name]["estimate"] for name in known)
        table.get_by_role("button", name="claim", exact=True).click()
        assert view.evaluate(names)[:2] == ["H1", "H2"]
        table.get_by_role("button", name="claim", exact=True).click()
        assert view.evaluate(names)[0] == "H20"
        assert table.locator("th[aria-sort]").count() == 1
        assert errors == []
        browser.close()
