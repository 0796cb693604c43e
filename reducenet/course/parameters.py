"""A page's parameters, checked: papermill only warns of a name that it does not know and goes on with the default. We refuse."""

import ast
import sys

RULES = {
    "seed": (0, 10**6), "expansion": [1, 2, 4, 8], "scaler": (0.0, 1.0), "lam": (0.0, 1.0), "rank": (1, 64), "temperature": (0.1, 100.0),
    "keep": (0, 5), "width": (4, 64), "epochs": (1, 200), "dataset": ["fashion-mini", "fashion-mnist", "synthetic"],
    "profile": ["smoke", "quick", "full"], "retrain": [False, True],
}  # fmt: skip


class ParameterError(ValueError):
    """A parameter is unknown, of the wrong type or out of range; one line."""


def check(given: dict, injected: set[str] = frozenset()) -> None:
    """Every parameter keeps its rule: a range as a pair, or its values as a list; `injected` names what came from outside.

    >>> check({"seed": 0}, {"sede"})
    Traceback (most recent call last):
    reducenet.course.parameters.ParameterError: unknown parameter 'sede'; known: seed
    """
    if unknown := sorted(injected - set(given)):
        raise ParameterError(f"unknown parameter {', '.join(map(repr, unknown))}; known: {', '.join(given)}")
    for name, value in given.items():
        rule = RULES[name]
        kind = type(rule[0])
        if isinstance(value, bool) != (kind is bool) or not isinstance(value, (int, float) if kind is float else kind):
            allowed = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}[kind]
            raise ParameterError(f"parameter {name} = {value!r} must be {allowed}")
        if isinstance(rule, tuple) and not rule[0] <= value <= rule[1]:
            raise ParameterError(f"parameter {name} = {value!r} must lie between {rule[0]} and {rule[1]}")
        if isinstance(rule, list) and value not in rule:
            raise ParameterError(f"parameter {name} = {value!r} must be one of {', '.join(map(str, rule))}")


def injected() -> set[str]:
    """The names in the cell that papermill puts behind the parameters cell; none where a page is run by hand."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    cells = [cell for cell in (shell.user_ns.get("In", []) if shell else []) if cell.startswith("# Parameters\n")]
    if not cells:
        return set()
    targets = [target for line in ast.parse(cells[-1]).body if isinstance(line, ast.Assign) for target in line.targets]
    return {target.id for target in targets if isinstance(target, ast.Name)}
