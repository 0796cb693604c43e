"""The package's face: where each public name lives. Words are found by themselves; here is what is no word."""

from reducenet.words.declared import SENTENCE, words

NAMES = {
    "LambdaReLU": "nets.activation", "slide": "nets.activation", "ReduceNet": "nets.networks",
    "ScalerBlock": "nets.blocks", "PlainBlock": "nets.blocks", "LambdaBlock": "nets.blocks", "PublishedBlock": "nets.blocks",
    "InvertedBlock": "nets.blocks", "RepVGGBlock": "nets.blocks",
    "NotExact": "algebra.exact", "fold_bn": "algebra.exact", "merge": "algebra.exact", "add": "algebra.exact", "repair": "algebra.borders",
    "stack": "moves.stack", "unstack": "moves.stack", "fit_replicates": "learn.replicates",
    "fuse_report": "deploy.report", "to_program": "deploy.export", "to_onnx": "deploy.export",
    "MoveError": "words", "perform": "words", "cross_entropy": "learn.losses", "DivergedError": "learn.train",
    "accuracy": "learn.evaluate", "parameters": "learn.measure", "macs": "learn.measure", "latency": "learn.measure",
    "DataError": "data.sources", "load_data": "data.tensors", "save": "play.checkpoint", "load": "play.checkpoint",
    "load_published": "play.published",
}  # fmt: skip


def homes() -> dict[str, str]:
    """Every public name, and the module where it lives."""
    found = {word.function: word.home for word in words(*SENTENCE, "loss").values() if word.home.startswith("reducenet.")}
    return found | {name: f"reducenet.{module}" for name, module in NAMES.items()}
