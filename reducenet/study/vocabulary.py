"""The words of a chain: every move of a study file, its parameters, their ranges and defaults.

They are the same, name by name, as the functions in the core; this module imports no torch, so that a plan is instant.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from reducenet.names import PARTS, READS, conflict


class Words(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(gt=0, le=1)]
Above0 = Annotated[float, Field(gt=0)]
AtLeast0 = Annotated[float, Field(ge=0)]
Names = str | list[str]

# The parameters of `fit` that only some losses read.
LOSS_READS = {
    "ce": (), "smoothed": ("smoothing",), "kd": ("teacher", "kd_weight", "temperature", "kd_reduction"),
    "features": ("teacher", "feature_weight"), "hints": ("teacher", "feature_weight"), "attention": ("teacher", "feature_weight"),
    "match": ("teacher",), "block-wise": ("teacher",), "sandwich": ("subnets",), "netaug": ("aug_weight",),
}  # fmt: skip


class Build(Words):
    """A fresh network; `num_classes` and `in_channels` come from the data, the start from the seed."""

    block: Literal["scaler", "plain", "lambda", "published", "inverted", "repvgg"] = "scaler"
    depth: Positive = 8
    width: Positive = 8
    expansion: Positive = 4
    scaler: Share = 1.0
    lam: Share = 0.0
    post_relu: bool = True
    stem_stride: Positive = 1

    @model_validator(mode="after")
    def _depth(self):
        if self.depth < 8 or (self.depth - 2) % 6:
            raise ValueError("depth must be 6n + 2: 8, 14, 20, ...")
        return self


class VanillaNet(Words):
    depth: Annotated[int, Field(ge=5)] = 5
    width: Positive = 8
    n: Count = 1
    lam: Share = 0.0
    stem_stride: Positive = 2


class BestOf(Words):
    """The best of `tickets` replicates of arm `arm`, chosen on validation; its cost is that of all of them."""

    arm: str
    tickets: Annotated[int, Field(ge=2)]


class Fit(Words):
    """Training: `epochs`, or as many as the whole training of the arm `cost_of` would pay for."""

    epochs: Positive | None = None
    cost_of: str | None = None
    loss: Literal["ce", "smoothed", "kd", "features", "hints", "attention", "match", "block-wise", "sandwich", "netaug"] = "ce"
    teacher: str | None = None
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    kd_weight: Share = 0.9
    temperature: Above0 = 4.0
    kd_reduction: Literal["batchmean", "elementwise-mean"] = "batchmean"
    feature_weight: Above0 = 1.0
    subnets: Annotated[int, Field(ge=2)] = 4
    aug_weight: AtLeast0 = 1.0
    lr: Above0 = 0.1
    momentum: Share = 0.9
    weight_decay: AtLeast0 = 5e-4
    batch: Positive = 128
    schedule: Literal["one-cycle", "cosine"] = "one-cycle"
    lam: Literal["linear", "cosine", "hard"] | None = None
    lam_until: Part = 1.0
    lam_weight: AtLeast0 = 0.0

    @model_validator(mode="before")
    @classmethod
    def _scale(cls, given: dict) -> dict:
        """Attention maps are normalised, so their distances are small: as the function has it, the weight is 1000 unless given."""
        return {"feature_weight": 1000.0} | given if given.get("loss") == "attention" else given

    @model_validator(mode="after")
    def _sense(self):
        if (self.epochs is None) == (self.cost_of is None):
            raise ValueError("a fit needs either epochs or cost_of")
        if ("teacher" in LOSS_READS[self.loss]) != (self.teacher is not None):
            taught = ", ".join(f'"{loss}"' for loss, read in LOSS_READS.items() if "teacher" in read)
            raise ValueError(f"a teacher goes with the losses that have one, {taught}, and with no other")
        return self


class DropBranch(Words):
    pass


class SetScaler(Words):
    scaler: Share


class Narrow(Words):
    expansion: Count | list[Count]


class Linearise(Words):
    at: Names = "*"


class Settle(Words):
    at: Names = "*"


class Loosen(Words):
    at: Names = "*branch2.2"


class AddRelu(Words):
    at: Names = "*"


class LearnLam(Words):
    at: Names = "*"


class PadFirst(Words):
    pass


class Renew(Words):
    at: Names = "*"
    start: Literal["fresh", "merged"] = "fresh"


class Freeze(Words):
    """`parts` are the switches in `PARTS`, or patterns with a `*` over names of parameters and statistics."""

    parts: Names

    @field_validator("parts")
    @classmethod
    def _known(cls, parts: Names) -> Names:
        if not parts:
            raise ValueError(f"nothing is named; known: {', '.join(PARTS)}, or a pattern with a *")
        for part in [parts] if isinstance(parts, str) else parts:
            if part not in PARTS and "*" not in part:
                raise ValueError(f"unknown part {part!r}; known: {', '.join(PARTS)}, or a pattern with a *")
        return parts


class Reinit(Words):
    at: Names = "*"


class Attach(Words):
    expansion: Positive | None = None
    at: Names = "*branch2.0"
    rank: Positive | None = None
    order: Literal["conv3-conv1", "conv1-conv3"] = "conv3-conv1"
    bn: bool = False
    lam: Share | None = None
    join: Literal["before-bn", "after-bn"] = "before-bn"
    start: Literal["zero-conv", "zero-gamma"] | None = None
    space: Literal["weight", "branch"] | None = None

    @model_validator(mode="after")
    def _foldable(self):
        if why := conflict(**self.model_dump()):
            raise ValueError(why)
        return self


class Project(Words):
    factor: Positive = 2


class Repopt(Words):
    at: Names = "*branch2.0"
    conv3: Above0 = 1.0
    conv1: AtLeast0 = 1.0
    identity: AtLeast0 = 0.0


class Fold(Words):
    pass


class Fuse(Words):
    strict: bool = True
    dearer: bool = False


class SearchMask(Words):
    keep: Count
    by: Literal["learned", "random", "greedy", "magnitude"] = "learned"
    epochs: Positive = 1
    lr: Above0 = 0.05
    explore: AtLeast0 = 0.0
    cost_weight: AtLeast0 = 0.0
    cost: Literal["macs", "latency"] = "macs"
    gradual: bool = False
    final_relu: bool = False


class Snap(Words):
    above: Part = 0.9


class SearchDepth(Words):
    budget: Part = 0.7
    cost: Literal["macs", "latency"] = "macs"
    epochs: Count = 0
    lr: Above0 = 0.05


class SearchWidth(Words):
    budget: Part
    tries: Positive = 16
    images: Positive = 2000


class Prune(Words):
    macs: Positive | Annotated[float, Field(gt=0, lt=1)] | None = None
    importance: Literal["group-magnitude", "bn-scale", "random"] = "group-magnitude"
    tolerance: Above0 = 0.01


class Recalibrate(Words):
    images: Positive = 4000
    batch: Positive = 200


class Ridge(Words):
    teacher: str
    strength: Above0 = 1e-3
    images: Positive = 2000
    at: Names = "*branch2.0"


STARTS: dict[str, type[Words]] = {"build": Build, "vanillanet": VanillaNet, "best_of": BestOf}
VOCABULARY: dict[str, type[Words]] = {
    **STARTS, "fit": Fit,
    "drop_branch": DropBranch, "set_scaler": SetScaler, "narrow": Narrow, "linearise": Linearise, "settle": Settle, "loosen": Loosen,
    "add_relu": AddRelu, "learn_lam": LearnLam, "pad_first": PadFirst, "renew": Renew, "freeze": Freeze, "reinit": Reinit,
    "attach": Attach, "project": Project, "repopt": Repopt, "fold": Fold, "fuse": Fuse,
    "search_mask": SearchMask, "snap": Snap, "search_depth": SearchDepth, "search_width": SearchWidth, "prune": Prune,
    "recalibrate": Recalibrate, "ridge": Ridge,
}  # fmt: skip


def idle(name: str, given: dict) -> set[str]:
    """The parameters of a build or a fit, all of them given, that this block or this loss does not read."""
    if name == "build":
        return {key for read in READS.values() for key in read} - set(READS[given["block"]])
    if name == "fit":
        slide = set() if given["lam"] else {"lam_until"}
        return {key for read in LOSS_READS.values() for key in read} - set(LOSS_READS[given["loss"]]) | slide
    return set()


ARMS = ("teacher", "cost_of", "arm")  # parameters that name another arm
