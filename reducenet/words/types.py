"""What a parameter of a word may be: ranges, choices, names of arms. The annotations of every word's signature are these."""

from typing import Annotated, Literal, NamedTuple

from pydantic import Field

__all__ = [
    "Above0", "Annotated", "Arm", "AtLeast0", "AtLeast2", "Block", "Count", "Field", "Literal", "Loss", "Names", "Part", "Positive",
    "Share",
]  # fmt: skip


class OfKind(NamedTuple):
    """The value is the name of a word of this kind, and the parameters of that word join those of the word that names it."""

    kind: str


NAMES_AN_ARM = "names an arm"  # in a study file; what a Python call hands over is that arm's network

Positive = Annotated[int, Field(ge=1)]
AtLeast2 = Annotated[int, Field(ge=2)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(gt=0, le=1)]
Above0 = Annotated[float, Field(gt=0)]
AtLeast0 = Annotated[float, Field(ge=0)]
Names = str | list[str]
Arm = Annotated[str, NAMES_AN_ARM]
Block = Annotated[str, OfKind("block")]
Loss = Annotated[str, OfKind("loss")]
