"""What of a source changes a number: all but comments, docstrings, layout and the wording of errors. The same text under every Python."""

import ast
import bisect
import io
import tokenize

SKIPPED = (tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER)
LAYOUT = {tokenize.NEWLINE: ";", tokenize.INDENT: "{", tokenize.DEDENT: "}"}
CLOSING = {")": "(", "]": "[", "}": "{"}
F_START, F_END = (getattr(tokenize, name, -1) for name in ("FSTRING_START", "FSTRING_END"))  # from Python 3.12 on; one token before

Place = tuple[int, int]  # line, column


def meaning(text: str) -> str:
    """The tokens that count, in order. A comma that only ends a list over several lines does not, nor do the quotes of a text."""
    lines, gone = text.splitlines(keepends=True), _gone(text)
    kept: list[str] = []
    commas: list[int] = [0]  # in each bracket that is open
    f_strings: list[Place] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == F_START:
            f_strings.append(token.start)
        if f_strings:
            if token.type == F_END and len(f_strings) == 1 and not _inside(f_strings[0], gone):
                kept.append(_slice(lines, f_strings[0], token.end))
            if token.type == F_END:
                f_strings.pop()
            continue
        empty = token.type == tokenize.NEWLINE and kept[-1:] in ([], [";"], ["{"])
        if token.type in SKIPPED or empty or _inside(token.start, gone):
            continue
        if token.string in CLOSING.values() and token.type == tokenize.OP:
            commas.append(0)
        if token.string in CLOSING and token.type == tokenize.OP:
            if kept[-1] == "," and commas[-1] > 1:
                kept.pop()
            commas.pop()
        commas[-1] += token.string == "," and token.type == tokenize.OP
        kept.append(LAYOUT.get(token.type) or (_plain(token.string) if token.type == tokenize.STRING else token.string))
    return " ".join(kept)


def _plain(string: str) -> str:
    """A text without its quotes, which may be either; an f-string, which is no literal, as it is written."""
    try:
        return repr(ast.literal_eval(string))
    except ValueError:
        return string


def _gone(text: str) -> list[tuple[Place, Place]]:
    """Where docstrings stand, and what errors are called with."""
    lines, spans = text.splitlines(keepends=True), []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node) is not None:
            spans.append(_span(node.body[0], lines))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            spans.append((_span(node.exc.func, lines)[1], _span(node.exc, lines)[1]))
    return sorted(spans)  # none stands in another


def _span(node: ast.AST, lines: list[str]) -> tuple[Place, Place]:
    """Start and end, columns in characters (the parser counts bytes)."""
    places = ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))
    return tuple((line, len(lines[line - 1].encode()[:column].decode())) for line, column in places)


def _inside(place: Place, spans: list[tuple[Place, Place]]) -> bool:
    after = bisect.bisect_right(spans, (place, (1 << 30, 0)))
    return after > 0 and place < spans[after - 1][1]


def _slice(lines: list[str], start: Place, end: Place) -> str:
    """The source from one place to another."""
    if start[0] == end[0]:
        return lines[start[0] - 1][start[1] : end[1]]
    middle = lines[start[0] : end[0] - 1]
    return "".join([lines[start[0] - 1][start[1] :], *middle, lines[end[0] - 1][: end[1]]])
