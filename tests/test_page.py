"""What a report says and how it looks: sentences from rows, names of any kind, figures."""

import re
from xml.etree import ElementTree

import pandas as pd
import pytest
from studies import TINY, make

from reducenet.study.read import read
from reducenet.study.report.answer import answer, lead
from reducenet.study.report.page import render
from reducenet.study.report.prose import Report, signed
from reducenet.study.report.rows import Row, Timing
from reducenet.style import ARMS, DUSK, arm_styles

NOISE = [0.0003, -0.0004, 0.0001, 0.0002, -0.0002, 0.0]


def report_of(folder, text: str = TINY, status: dict | None = None, **accuracy: float | list[float]) -> Report:
    """A report on six seeds: the tiny study, or another text, with these accuracies; `status` says which arms have none."""
    study, rows = read(make(folder, text)), []
    for arm in study.arms:
        given = accuracy.get(arm.replace("-", "_"), 0.5)
        for seed, noise in enumerate(NOISE):
            right = given[seed] if isinstance(given, list) else given + (noise if arm != study.compare.baseline else 0)
            state = (status or {}).get(arm, "ok")
            row = Row("tiny", arm, seed, state, error="MoveError: a | b <script>" if state == "failed" else "")
            if state == "ok":
                row = row._replace(test_accuracy=right, val_accuracy=right / 2, test_images=5000, parameters=10, macs=2000, epochs=1,
                                   ledger_macs=1000, fuse_error=0.0, run=f"{arm}.s{seed}", device="cpu", threads=1)  # fmt: skip
            rows.append(row._asdict() | Timing(arm, seed, 0.001, 0.01, 5.0, 6.0, "a | processor", "3.11")._asdict())
    return Report(study, pd.DataFrame(rows))


def asking(title: str, *pairs: tuple[str, str]) -> str:
    also = ", ".join(f'["{arm}", "{against}"]' for arm, against in pairs)
    return TINY.replace('title = "tiny"', f'title = "{title}"').replace('baseline = "plain"', f'baseline = "plain"\nalso = [{also}]')


ASKED = asking("Is it worth it?", ("lora", "long"), ("teacher", "long"))


@pytest.mark.parametrize(
    ("text", "accuracy", "said"),
    [
        (ASKED, dict(lora=0.55, long=0.60, plain=0.5), "No: lora is 5.0 points of test accuracy below long, but 5.0 above plain."),
        (ASKED, dict(lora=0.65, long=0.60, plain=0.5), "Yes: lora is 5.0 points of test accuracy above long, and 15.0 above plain."),
        (ASKED, dict(lora=0.45, long=0.60, plain=0.5), "No: lora is 15.0 points of test accuracy below long, and 5.0 below plain."),
        (ASKED, dict(lora=[0.601, 0.599, 0.6, 0.6, 0.601, 0.6], long=0.60, plain=0.6),
         "No: lora is equivalent to long within ±0.5 points of test accuracy (+0.02), and equivalent to plain within ±0.5 (+0.02)."),
        (ASKED, dict(lora=[0.601, 0.599, 0.6, 0.6, 0.6, 0.5998], long=0.6, plain=0.6004),
         "No: lora is equivalent to long within ±0.5 points of test accuracy (+0.00), and equivalent to plain within ±0.5 (−0.04)."),
        (ASKED, dict(lora=[0.7, 0.5, 0.6, 0.61, 0.58, 0.64], long=0.6, plain=0.3),
         "Not decided: lora against long, +0.50 [−6.43, +7.43] points of test accuracy."),
        (ASKED, dict(lora=[0.7, 0.5, 0.6, 0.61, 0.58, 0.64], long=0.3, plain=0.6),
         "Yes: lora is 30.5 points of test accuracy above long; against plain it is not decided (+0.50 [−6.45, +7.45])."),
        (ASKED, dict(lora=[0.614, 0.602, 0.61, 0.6, 0.613, 0.603], long=0.6, plain=0.6),
         "Not decided: lora against long, +0.70 [+0.07, +1.33] points of test accuracy: higher by itself, not among 6 comparisons."),
        (ASKED, dict(lora=[0.586, 0.598, 0.59, 0.6, 0.587, 0.597], long=0.6, plain=0.6),
         "Not decided: lora against long, −0.70 [−1.34, −0.06] points of test accuracy: lower by itself, not among 6 comparisons."),
        (asking("What is it worth?", ("lora", "long")), dict(lora=0.55, long=0.60, plain=0.6),
         "Found: lora is 5.0 points of test accuracy below long, and 5.0 below plain."),
        (asking("In wide networks, is it worth it?", ("lora", "long")), dict(lora=0.55, long=0.60, plain=0.6),
         "No: lora is 5.0 points of test accuracy below long, and 5.0 below plain."),
        (asking("Is it worth it, in wide networks?", ("lora", "long")), dict(lora=0.65, long=0.60, plain=0.6),
         "Yes: lora is 5.0 points of test accuracy above long, and 5.0 above plain."),
        (asking("In wide networks, what is it worth?", ("lora", "long")), dict(lora=0.55, long=0.60, plain=0.6),
         "Found: lora is 5.0 points of test accuracy below long, and 5.0 below plain."),
        (asking("It is worth it", ("lora", "long")), dict(lora=0.55, long=0.60, plain=0.6),
         "Found: lora is 5.0 points of test accuracy below long, and 5.0 below plain."),
        (TINY, dict(teacher=0.8, plain=0.5, long=0.6, drop=0.1, lora=[0.7, 0.3, 0.5, 0.51, 0.48, 0.54]),
         "Against plain in test accuracy: 2 of 4 arms higher (most: the teacher, +30.0 points), 1 lower (most: drop, −40.0 points), "
         "1 not decided."),
    ],
)  # fmt: skip
def test_the_question_is_answered_in_a_sentence(text, accuracy, said, tmp_path):
    report = report_of(tmp_path, text, **accuracy)
    assert answer(report) == said
    assert lead(report).startswith(f"**{said}** ")


def test_too_few_seeds_a_lost_arm_and_a_lonely_arm_have_their_sentences(tmp_path):
    few = report_of(tmp_path, ASKED, plain=0.5)
    assert lead(Report(few.study, few.rows[few.rows.seed < 4])) == "**No result: 4 seeds an arm, and a number needs 5.**"
    study = few.study.model_copy(update={"compare": few.study.compare.model_copy(update={"on": "val"})})
    study._chains.update(few.study.chains)
    chosen = lead(Report(study, few.rows[few.rows.seed < 4]))
    assert chosen.startswith("**No result: 4 seeds an arm, and a number needs 5.** Highest mean: ")
    lost = report_of(tmp_path, ASKED, {"lora": "diverged"}, long=0.6)
    assert answer(lost) == "No result: lora and long share 0 finished seeds, and a number needs 5."
    alone = TINY[: TINY.index("[arms.teacher]")] + '[arms.plain]\nchain = [{ build = "plain" }, "fit"]\n'
    assert answer(report_of(tmp_path, alone, plain=0.5)) == "Nothing is compared: plain is alone, at 50.0 % test accuracy."


def test_the_measure_is_the_one_that_the_study_names(tmp_path):
    text = TINY.replace('baseline = "plain"', 'baseline = "plain"\non = "val"')
    report = report_of(tmp_path, text, teacher=0.8, plain=0.4)
    assert report.values.teacher.mean() == pytest.approx(40)
    assert report.accuracy_row("plain")["mean"] == "20.00"
    assert report.every_row("plain")["cells"][0] == "[20.00](runs/plain.s0.ipynb)"
    assert "in validation accuracy" in answer(report)


def test_while_the_pair_that_is_asked_for_has_not_been_run_the_next_one_answers(tmp_path):
    report = report_of(tmp_path, ASKED, {"lora": "missing"}, teacher=0.65, long=0.6, plain=0.5)
    assert answer(report) == "Yes: the teacher is 5.0 points of test accuracy above long, and 15.0 above plain."
    assert (
        answer(report_of(tmp_path, ASKED, {"long": "missing"})) == "No result: lora and long share 0 finished seeds, and a number needs 5."
    )


def test_after_the_sentence_come_the_counts_and_what_stays_open(tmp_path):
    report = report_of(tmp_path, ASKED, teacher=0.8, plain=0.5, long=0.6, drop=0.1, lora=[0.7, 0.3, 0.5, 0.51, 0.48, 0.54])
    assert lead(report).endswith(
        "Of 6 comparisons: 3 higher, 1 lower, 2 undecided. Not decided: lora and lora against long. Highest mean: the teacher."
    )


def test_what_stays_open_is_named_while_it_is_little_and_a_name_with_a_comma_stays_one(tmp_path):
    loose = [0.7, 0.3, 0.5, 0.51, 0.48, 0.54]
    text = ASKED.replace("[arms.lora]", '[arms.lora]\nlabel = "lora, rank 2"')
    report = report_of(tmp_path, text, teacher=0.8, plain=0.5, long=0.6, drop=0.1, lora=loose)
    assert "2 undecided. Not decided: lora, rank 2; and lora, rank 2 against long. Highest" in lead(report)
    many = report_of(tmp_path, text, teacher=[0.6, 0.4, 0.5, 0.51, 0.48, 0.9], plain=0.5, long=0.5, drop=0.1, lora=loose)
    assert "Of 6 comparisons: 1 equivalent, 1 lower, 4 undecided. Highest" in lead(many)


NASTY = "a | <script>alert(1)</script> $x_1$ *b* [c](d) `e` & _f_"


def test_names_of_any_kind_neither_break_the_page_nor_run(tmp_path):
    label = f"label = '{NASTY}'"
    text = TINY.replace('label = "the teacher"', label).replace(
        'title = "tiny"', f"title = '# {NASTY}'\nquestion = '1. {NASTY}'\nnotes = ['- {NASTY}']"
    )
    plain = TINY.replace('label = "the teacher"', 'label = "T"').replace('title = "tiny"', "title = 'T'\nquestion = 'T'\nnotes = ['T']")
    lost = {"drop": "failed"}
    render(report_of(tmp_path, text, lost, teacher=0.8, plain=0.5), tmp_path / "nasty")
    render(report_of(tmp_path, plain, lost, teacher=0.8, plain=0.5), tmp_path / "plain")

    def skeleton(name: str) -> list[str]:
        """The tags of a page, its figures left out: what names must not change."""
        page = re.sub(r"<svg.*?</svg>", "<svg>", (tmp_path / name / "index.html").read_text(), flags=re.DOTALL)
        return re.findall(r"<(\w+)", page)

    page = (tmp_path / "nasty" / "index.html").read_text()
    assert "<script" not in page
    assert skeleton("nasty") == skeleton("plain")
    shown = NASTY.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for where in (f"<title># {shown}</title>", f"<h1># {shown} (partial", f"<p>1. {shown}</p>", f">{shown}</td>", f"<li>- {shown}</li>",
                  ": failed, left out of every mean; MoveError: a | b &lt;script&gt;.", "a | processor"):  # fmt: skip
        assert where in page, where
    for figure in ("accuracy", "difference", "cost"):
        svg = (tmp_path / "nasty" / "figures" / f"{figure}.svg").read_text()
        assert f">{shown}</text>" in svg
        assert "<script" not in svg
    cells = {line.count(" | ") for line in (tmp_path / "nasty" / "report.md").read_text().splitlines() if line.startswith("| a \\| ")}
    assert cells == {line.count(" | ") for line in (tmp_path / "plain" / "report.md").read_text().splitlines() if line.startswith("| T ")}


def test_a_name_may_hold_what_a_drawing_may_not(tmp_path):
    text = TINY.replace('label = "the teacher"', 'label = "a\\u000bb\\u001bc\\u0000d"')
    assert text != TINY
    render(report_of(tmp_path, text), tmp_path)
    for figure in ("accuracy", "difference", "cost"):
        assert ">a b c d</text>" in ElementTree.canonicalize((tmp_path / "figures" / f"{figure}.svg").read_text())


def test_a_move_with_a_bar_or_a_backtick_stays_in_its_cell(tmp_path):
    text = TINY.replace("{ attach = { expansion = 2 } }", '{ attach = { expansion = 2, at = "*[|`]conv" } }')
    render(report_of(tmp_path, text), tmp_path / "page")
    assert re.search(
        r"<td[^>]*><code>[^<]*attach\(expansion 2, at \*\[\|`\]conv\)[^<]*</code></td>", (tmp_path / "page" / "index.html").read_text()
    )


def test_tables_scroll_in_themselves_and_figures_are_spoken(tmp_path):
    render(report_of(tmp_path), tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert page.count('<div class="wide" tabindex="0"><table>') == page.count("<table>") == 6
    assert re.search(r"\.wide \{[^}]*overflow-x: auto", page)
    assert re.search(r"max-width: 40rem.*\.wide tr.*display: block.*attr\(data-column\)", page, re.DOTALL)  # cards on a phone
    rows = [re.findall(r'data-column="([^"]*)"', row) for row in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)]
    heads = [re.findall(r"<th[^>]*>(.*?)</th>", head) for head in re.findall(r"<thead>.*?</thead>", page, re.DOTALL)]
    assert all(row in heads for row in rows if row)
    assert len([row for row in rows if row]) == 5 + 4 + 5 + 5 + 5 + 5
    assert "prefers-color-scheme: dark" in page
    assert page.count("<svg") == len(re.findall(r'<svg role="img" aria-label="[^"]{20,}"', page)) == 3


def test_a_figure_carries_nothing_that_is_not_seen_or_said(tmp_path):
    render(report_of(tmp_path), tmp_path)
    for figure in ("accuracy", "difference", "cost"):
        svg = (tmp_path / "figures" / f"{figure}.svg").read_text()
        assert svg.startswith('<svg role="img"')
        assert "<metadata" not in svg
        assert set(re.findall(r'\bid="([^"]+)"', svg)) == set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) != set()
        numbers = [number for path in re.findall(r' d="([^"]*)"', svg) for number in re.findall(r"\d*\.?\d+", path)]
        assert max(len(number.replace(".", "").lstrip("0")) for number in numbers) == 5  # of the hundreds of points, two behind the dot
        asked = set(re.findall(r'\[(?:fill|stroke)="(#\w+)"\]', svg))
        assert asked == {day for day in DUSK if day in re.sub(r"<style>.*?</style>", "", svg, flags=re.DOTALL)} != set()


def test_an_arm_without_a_number_is_named_for_what_became_of_it(tmp_path):
    report = report_of(tmp_path, status={"drop": "diverged", "lora": "missing"}, plain=0.5)
    assert report.accuracy_row("drop")["mean"] == "diverged"
    assert report.accuracy_row("lora")["mean"] == "not run"
    render(report, tmp_path)
    assert ">diverged</text>" in (tmp_path / "figures" / "accuracy.svg").read_text()


def test_arms_of_one_study_never_look_alike():
    names = [*ARMS, *(f"arm{i}" for i in range(60))]
    styles = arm_styles(names)
    assert len(set(styles.values())) == len(names)
    assert all(styles[arm] == ARMS[arm] for arm in ARMS)
    assert arm_styles(["arm3"]) == {"arm3": arm_styles(["arm3", "plain"])["arm3"]}


def test_the_answer_comes_first_then_one_figure_then_the_rest(tmp_path):
    text = render(report_of(tmp_path, ASKED, lora=0.55, long=0.60, plain=0.5), tmp_path)
    lines = [line for line in text.splitlines() if line]
    assert lines[1].startswith("**No: lora is 5.0 points of test accuracy below long")
    assert lines[2].startswith("![Dot plot of test accuracy")
    assert text.index("## ") > text.index("A seed replicates the whole chain")


def test_every_pair_has_one_reading_on_the_page(tmp_path):
    report = report_of(tmp_path, ASKED, teacher=0.8, plain=0.5, long=0.6, drop=0.1, lora=[0.7, 0.3, 0.5, 0.51, 0.48, 0.54])
    text = render(report, tmp_path)
    for c in report.contrasts:
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {report.against(c)} |")]
        assert line.endswith(f"| {c.reading.marked} |")
        cells = line.split(" | ")
        assert cells[1] == f"{signed(c.mean)} [{signed(c.low)}, {signed(c.high)}]"
        assert cells[2:4] == ["< 0.001" if p < 0.001 else f"{p:.3f}" for p in (c.p, c.p_flip)]
        assert sum(text.count(f"{sign} {c.reading}") for sign in "▲▼=?—") == sum(other.reading == c.reading for other in report.contrasts)
    assert "lora minus long: " in text[text.index("paired t interval") :]  # what would have been found


def test_what_failed_alike_is_named_once(tmp_path):
    report = report_of(tmp_path, status={"drop": "failed", "lora": "missing"}, plain=0.5)
    assert [line for line in report.threats() if "left out" in line] == [
        "drop, seeds 0, 1, 2, 3, 4 and 5: failed, left out of every mean; MoveError: a \\| b \\<script\\>.",
        "lora, seeds 0, 1, 2, 3, 4 and 5: not run, left out of every mean.",
    ]
