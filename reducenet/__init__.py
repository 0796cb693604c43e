"""ReduceNet: networks that shed a branch, and the experiments that say what it is worth.

    student = freeze(drop_branch(teacher), "classifier")
    student, rows = fit(student, data, epochs=8)

Names are imported on first use, so `reducenet plan` never waits for torch. Every word of a sentence is one of them.
"""

from importlib import import_module


def __getattr__(name: str):
    if name == "__all__":
        return __dir__()
    from reducenet.words.face import homes

    if name.startswith("_") or name not in homes():
        raise AttributeError(f"module 'reducenet' has no attribute {name!r}")
    return getattr(import_module(homes()[name]), "load" if name == "load_data" else name)


def __dir__():
    from reducenet.words.face import homes

    return sorted(homes())
