"""93 networks of somebody else's: equal, or refused with the reason, no BN that stays without a word; docs/timm.md is what they give."""

import pytest
from sweep import NETS, PAGE, line, swept

pytestmark = pytest.mark.slow
ROWS = {row.split(" | ")[0].removeprefix("| "): f"{row}\n" for row in PAGE.read_text(encoding="utf-8").splitlines() if row.startswith("| ")}


@pytest.mark.parametrize("name", NETS)
def test_equal_or_refused_and_every_bn_accounted_for(name):
    row = swept(name)
    assert row.outcome == "equal" or row.outcome.startswith("refused: ")
    assert "WITHOUT A WORD" not in row.left
    assert sum(row.left.values()) == row.norms[1] or row.outcome != "equal"
    assert ROWS[name] == line(row), "stale: python tests/sweep.py"


def test_the_page_has_93_networks():
    assert len(NETS) == len(set(NETS)) == len(ROWS) - 1 == 93
