"""The words of a sentence of moves, each declared once, by the decorated signature of its function. Imports no torch."""

from reducenet.words.declared import (
    KINDS,
    add,
    added,
    block,
    build,
    choice,
    dataset,
    find,
    fit,
    function,
    loss,
    move,
    others,
    search,
    tune,
    words,
)  # fmt: skip
from reducenet.words.sentence import arms_named, caption, perform, said, split, used, whole
from reducenet.words.types import (
    Above0,
    Annotated,
    Arm,
    AtLeast0,
    AtLeast2,
    Block,
    Count,
    Field,
    Literal,
    Loss,
    Names,
    Part,
    Positive,
    Share,
)  # fmt: skip
from reducenet.words.word import REQUIRED, MoveError, Parameter, Strict, Word, complaint, place, unknown

__all__ = [
    "KINDS",
    "REQUIRED", "Above0", "Annotated", "Arm", "AtLeast0", "AtLeast2", "Block", "Count", "Field", "Literal", "Loss", "MoveError", "Names",
    "Parameter", "Part", "Positive", "Share", "Strict", "Word", "add", "added", "arms_named", "block", "build", "caption", "choice",
    "complaint", "dataset", "find", "fit", "function", "loss", "move", "others", "perform", "place", "said", "search", "split", "tune",
    "unknown", "used", "whole", "words",
]  # fmt: skip
