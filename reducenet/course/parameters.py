"""A page's parameters, checked: papermill only warns of a name that it does not know and goes on with the default. We refuse."""

from pathlib import Path

KERNEL = {"In", "Out", "get_ipython", "exit", "quit", "open"}


class ParameterError(ValueError):
    """A parameter is unknown, of the wrong type or out of range; one line."""


def check(names: dict, **allowed) -> None:
    """Call it right behind the parameters cell: `check(globals(), seed=int, scaler=(0.0, 1.0), expansion=[1, 2, 4, 8])`.

    `allowed` says for each parameter its type, its range as a pair, or its values as a list. Any other name that is defined by now came
    in from outside and is refused, with the list of known ones. When the cell is run again, the page's own names are there too, and only
    the parameters are checked.

    >>> check({"seed": 0, "sede": 3}, seed=int)
    Traceback (most recent call last):
    reducenet.course.parameters.ParameterError: unknown parameter 'sede'; known: seed
    """
    first, names["_parameters_checked"] = "_parameters_checked" not in names, True
    unknown = [name for name in names if name not in allowed and not name.startswith("_") and name not in KERNEL and name != "check"]
    if unknown and first:
        del names["_parameters_checked"]
        raise ParameterError(f"unknown parameter {', '.join(map(repr, unknown))}; known: {', '.join(allowed)}")
    for name, rule in allowed.items():
        value = names[name]
        kind = rule if isinstance(rule, type) else type(rule[0])
        if isinstance(value, bool) != (kind is bool) or not isinstance(value, (int, float) if kind is float else kind):
            raise ParameterError(f"parameter {name} = {value!r} must be a {kind.__name__}")
        if isinstance(rule, tuple) and not rule[0] <= value <= rule[1]:
            raise ParameterError(f"parameter {name} = {value!r} must lie between {rule[0]} and {rule[1]}")
        if isinstance(rule, list) and value not in rule:
            raise ParameterError(f"parameter {name} = {value!r} must be one of {', '.join(map(str, rule))}")


def reports() -> Path:
    """The folder of committed reports: beside the notebooks, wherever the page was started from."""
    for start in (Path.cwd(), Path(__file__).parents[2]):
        for folder in (start, *start.parents):
            if (folder / "reports" / "report.ipynb").is_file():
                return folder / "reports"
    raise FileNotFoundError("no reports/ folder found above this notebook; start the page inside a copy of the project")
