"""ReduceNet: networks that shed a branch, and the experiments that say what it is worth.

    student = freeze(drop_branch(teacher), "classifier")
    student, rows = fit(student, data, epochs=8)

Names are imported on first use, so `reducenet plan` never waits for torch.
"""

from importlib import import_module

from reducenet.home import BUILDS, MOVES, SEARCHES, TUNES

_HOME = {
    "LambdaReLU": "activation", "slide": "activation",
    "NotExact": "algebra", "fold_bn": "algebra", "merge": "algebra", "add": "algebra",
    "repair": "borders", "fuse": "deploy", "fuse_report": "fusion_report", "to_program": "export", "to_onnx": "export",
    "ScalerBlock": "blocks", "PlainBlock": "blocks", "LambdaBlock": "blocks", "PublishedBlock": "blocks",
    "InvertedBlock": "blocks", "RepVGGBlock": "blocks", "ReduceNet": "net", "build": "net", "vanillanet": "rivals.vanillanet",
    "MoveError": "moves", "drop_branch": "moves", "set_scaler": "moves", "linearise": "moves", "settle": "moves", "loosen": "moves",
    "add_relu": "moves", "renew": "moves", "freeze": "moves", "reinit": "moves", "attach": "side", "fold": "side",
    "perform": "chain", "recalibrate": "batchnorm",
    "cross_entropy": "distill", "soft_labels": "distill", "feature_alignment": "distill",
    "DivergedError": "train", "fit": "train",
    "accuracy": "measure", "parameters": "measure", "macs": "measure", "latency": "measure",
    "DataError": "datasets", "load_data": "data",
    "save": "checkpoint", "load": "checkpoint",
}  # fmt: skip
_HOME |= {word: module for words in (BUILDS, MOVES, SEARCHES, TUNES) for word, module in words.items() if word != "resize"}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'reducenet' has no attribute {name!r}")
    module = import_module(f"reducenet.{_HOME[name]}")
    return getattr(module, "load" if name == "load_data" else name)


def __dir__():
    return __all__
