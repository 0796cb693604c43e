"""The panel of page 05: recorded rows, no network."""

from reducenet.course.live.shown import Live
from reducenet.course.panels.budget import picture
from reducenet.course.panels.budget.material import material
from reducenet.data.tensors import Data


def live(data: Data | None = None, study: str = "every study") -> Live:
    """What the committed rows say, whatever `data` is; `study` is whose rows it starts with."""
    given = material(study)
    return Live("budget", "Your budget", given, *picture.drawn(given))


def shipped() -> Live:
    return live()
