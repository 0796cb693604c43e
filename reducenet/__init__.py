"""ReduceNet: networks that shed a branch, and the experiments that say what it is worth.

    student = freeze(drop_branch(teacher), "classifier")
    student, rows = fit(student, data, epochs=8)

Names are imported on first use, so `reducenet plan` never waits for torch.
"""

from importlib import import_module

from reducenet.home import BUILDS, MOVES, SEARCHES, TUNES

_HOME = {
    "LambdaReLU": "activation", "slide": "activation",
    "NotExact": "algebra", "fold_bn": "algebra", "merge": "algebra", "add": "algebra", "repair": "borders",
    "fuse_report": "fusion_report", "to_program": "export", "to_onnx": "export",
    "ScalerBlock": "blocks", "PlainBlock": "blocks", "LambdaBlock": "blocks", "PublishedBlock": "blocks",
    "InvertedBlock": "blocks", "RepVGGBlock": "blocks", "ReduceNet": "net",
    "MoveError": "moves", "perform": "chain",
    "cross_entropy": "distill", "soft_labels": "distill", "feature_alignment": "distill",
    "DivergedError": "train", "fit": "train",
    "accuracy": "measure", "parameters": "measure", "macs": "measure", "latency": "measure",
    "DataError": "datasets", "load_data": "data",
    "save": "checkpoint", "load": "checkpoint",
}  # fmt: skip
_HOME |= {**BUILDS, **MOVES, **SEARCHES, **TUNES}  # every word of a chain is a function
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'reducenet' has no attribute {name!r}")
    module = import_module(f"reducenet.{_HOME[name]}")
    return getattr(module, "load" if name == "load_data" else name)


def __dir__():
    return __all__
