"""Names that study files and networks share. Imports nothing, so that a plan is instant and says the same as the code that runs."""

# What `freeze` knows by name; anything else is a pattern over names of parameters and statistics.
PARTS = ("all", "classifier", "classifier.weight", "classifier.bias", "conv3", "bn.affine", "bn.statistics")

# The parameters of `build` that only some blocks read.
READS = {
    "scaler": ("expansion", "scaler", "post_relu"), "plain": ("post_relu",), "lambda": ("expansion", "lam", "post_relu"),
    "published": ("expansion", "post_relu"), "inverted": ("expansion", "lam", "post_relu"), "repvgg": (),
}  # fmt: skip
