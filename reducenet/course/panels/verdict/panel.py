"""The panel of page 06: the register joined with the recorded rows, no network."""

from reducenet.course.live.shown import Live
from reducenet.course.panels.verdict import picture
from reducenet.course.panels.verdict.material import material
from reducenet.data.tensors import Data


def live(data: Data | None = None, claim: str = "") -> Live:
    """What the committed rows say, whatever `data` is; `claim` is where it starts, by default the first with rows."""
    given = material(claim)
    return Live("verdict", "The verdicts", given, *picture.drawn(given))


def shipped() -> Live:
    return live()
