"""Predict before you look: the answer is there, folded, and opens where you say what you expect. Run All spoils nothing."""

import hashlib
from html import escape

STYLE = (
    "<style>.predict{max-width:38rem;border-left:4px solid;padding:.25rem 0 .25rem 1rem;margin:.5rem 0}.predict p{margin:.25rem 0}"
    ".predict summary{min-height:44px;display:flex;align-items:center;gap:.6rem;cursor:pointer}.predict summary::before{content:'○'}"
    ".predict [open]>summary{font-weight:700;cursor:default;pointer-events:none}.predict [open]>summary::before{content:'●'}"
    ".predict:has([open]) details:not([open]){opacity:.6;pointer-events:none}</style>"
)
# Said once is said: the others cannot be opened any more, nor this one closed, by the keyboard either.
LOCK = (
    "<script>document.querySelectorAll('.predict:not([data-ready])').forEach((box) => { box.dataset.ready = 1;"
    "const all = [...box.querySelectorAll('details')];"
    "all.forEach((one) => one.addEventListener('toggle', () => { if (!one.open) return;"
    "all.forEach((other) => (other.querySelector('summary').inert = true)); })); });</script>"
)


class Prediction:
    """A question with its options. Whoever opens one has said it, and sees beside it what was `measured`."""

    def __init__(self, question: str, options: list[str], right: int, measured: str):
        if not 0 <= right < len(options):
            raise ValueError(f"{question!r}: option {right} of {len(options)} cannot be the right one")
        self.question, self.options, self.right, self.measured = question, options, right, measured

    def _repr_mimebundle_(self, include=None, exclude=None):
        name = "predict-" + hashlib.sha256(self.question.encode()).hexdigest()[:8]
        answers = "".join(
            f'<details name="{name}"><summary>{escape(option)}</summary>'
            f"<p>{self._verdict(i)} <b>Measured:</b> {self.measured}</p></details>"
            for i, option in enumerate(self.options)
        )
        html = f'<div class="predict">{STYLE}<p><b>Predict.</b> {escape(self.question)}</p>{answers}{LOCK}</div>'
        listed = "".join(f"\n  - {option}" for option in self.options)
        return {"text/html": html, "text/plain": f"Predict. {self.question}{listed}"}

    def _verdict(self, said: int) -> str:
        return "✓ You said it." if said == self.right else f"✗ You said otherwise; it is: {escape(self.options[self.right])}."


def predict(question: str, options: list[str], right: int, measured: str) -> Prediction:
    """`options[right]` is what `measured` says, both computed by the page; `measured` may be HTML."""
    return Prediction(question, options, right, measured)


def between(value: float, *bounds: float) -> int:
    """Which option a measured value is: the number of `bounds` that it reaches, the bounds rising.

    >>> between(0.5, 1.0, 5.0), between(3.0, 1.0, 5.0), between(9.0, 1.0, 5.0)
    (0, 1, 2)
    """
    return sum(value >= bound for bound in bounds)
