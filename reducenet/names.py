"""Names and rules that study files and networks share. Imports nothing, so that a plan is instant and says what the run would."""

# What `freeze` knows by name; anything else is a pattern over names of parameters and statistics.
PARTS = ("all", "classifier", "classifier.weight", "classifier.bias", "conv3", "bn.affine", "bn.statistics")

# The parameters of `build` that only some blocks read.
READS = {
    "scaler": ("expansion", "scaler", "post_relu"), "plain": ("post_relu",), "lambda": ("expansion", "lam", "post_relu"),
    "published": ("expansion", "post_relu"), "inverted": ("expansion", "lam", "post_relu"), "repvgg": (),
}  # fmt: skip


def conflict(*, expansion, rank, order, bn, join, start, space, lam, **_) -> str | None:
    """Why these options of `attach` do not go together, or lead to what could not be folded; None where they do."""
    if expansion and rank:
        return "the width is given by expansion or by rank, not by both"
    if bn and order == "conv1-conv3":
        return 'a BN between conv1 and conv3 shifts what conv3 pads with 0, and could not be folded; take "conv3-conv1"'
    if start == "zero-gamma" and not bn:
        return 'start "zero-gamma" needs a BN in the branch (bn = true)'
    if space == "weight" and (bn or lam is not None or join == "after-bn"):
        return 'in weight space nothing stands inside the branch, and it joins before the BN; take space "branch"'
    return None
