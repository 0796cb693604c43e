"""What needs torch is asked of another process, line by line."""

import pytest

from reducenet.study.aside import answers
from reducenet.study.read import StudyError

HELPER = """
import json, os, sys
asked = json.load(sys.stdin)
for word in asked["words"]:
    print(json.dumps({"word": word, "seen": os.environ.get("SEEN")}), flush=True)
if asked.get("die"):
    print("first\\n" + "noise\\n" * 50_000 + asked["die"], file=sys.stderr)
    sys.exit(3)
"""


@pytest.fixture
def helper(tmp_path):
    (tmp_path / "a_helper.py").write_text(HELPER)
    return {"PYTHONPATH": str(tmp_path)}


def test_a_line_is_an_answer(helper):
    found = answers("a_helper", {"words": ["one", "zwölf"]}, "no", SEEN="this", **helper)
    assert next(found) == {"word": "one", "seen": "this"}
    assert list(found) == [{"word": "zwölf", "seen": "this"}]
    assert list(answers("a_helper", {"words": []}, "no", **helper)) == []


def test_its_last_words_are_the_trouble_however_much_it_said(helper):
    found = answers("a_helper", {"words": ["one"], "die": "MemoryError: no room"}, "trouble", **helper)
    assert next(found)["word"] == "one"
    with pytest.raises(StudyError, match="^trouble: MemoryError: no room$"):
        next(found)


def test_one_that_dies_without_a_word_is_told_by_its_code(tmp_path, helper):
    (tmp_path / "dead.py").write_text("import sys; sys.exit(7)")
    with pytest.raises(StudyError, match="^trouble: 7$"):
        list(answers("dead", {"words": ["x" * 1_000_000]}, "trouble", **helper))
