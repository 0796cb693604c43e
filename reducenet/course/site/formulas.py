r"""TeX in a page as MathML, at build time: what is read offline needs no script for its formulas.

>>> with_mathml("<p>$s$</p><pre>$x$</pre>").replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")
'<p><math display="inline"><mrow><mi>s</mi></mrow></math></p><pre>$x$</pre>'
"""

import re
from html import unescape

from latex2mathml.converter import convert

# Between tags, and outside of what is shown as it was typed.
TYPED = re.compile(r"(<(pre|code|script|style|svg|math|textarea)\b.*?</\2\s*>|<!--.*?-->|<[a-zA-Z/!][^>]*>)", re.DOTALL)
FORMULA = re.compile(r"(?<![\\$])\$\$(?P<block>[^$]+)\$\$(?!\$)|(?<![\\$])\$(?P<inline>[^$\s](?:[^$]*[^$\s\\])?)\$(?![\d$])")
# The same in words that latex2mathml knows.
SAME = (
    (r"(begin|end)\{(?:aligned|split|align)\}", r"\1{align*}"),
    (r"\\mathrm\{([A-Za-z ]+)\}", r"\\text{\1}"),
    (r"\\[bB]igg?[lrm]?\s*(?=\\[lr]angle)", ""),
)


class FormulaError(ValueError):
    """A formula that cannot be said in MathML; one line."""


def with_mathml(html: str) -> str:
    """The HTML with every `$...$` and `$$...$$` between its tags as MathML; code keeps its dollars. `FormulaError` for what is not TeX."""
    parts, at = [], 0
    for typed in TYPED.finditer(html):
        parts += [FORMULA.sub(_mathml, html[at : typed.start()]), typed[0]]
        at = typed.end()
    return "".join([*parts, FORMULA.sub(_mathml, html[at:])])


def _mathml(found: re.Match) -> str:
    tex, display = unescape(found["block"] or found["inline"]).strip(), "block" if found["block"] else "inline"
    said = tex
    for theirs, ours in SAME:
        said = re.sub(theirs, ours, said)
    try:
        math = convert(said, display=display)
    except Exception as error:
        raise FormulaError(f"no MathML for {tex!r}: {type(error).__name__} {error}".rstrip()) from None
    if stray := re.search(r"\\[a-zA-Z]+", math) or re.search(r"<m[io]>&(?:amp;)?</m[io]>", math):  # passed through as it stood
        raise FormulaError(f"no MathML for {stray[0]!r} in {tex!r}")
    return f'<div class="formula" tabindex="0">{math}</div>' if display == "block" else math
