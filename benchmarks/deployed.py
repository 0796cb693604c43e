"""Deployed by onnxruntime: does the student save the time that its MACs promise?"""

import importlib.util
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.crew import Crew
from benchmarks.harness import CannotRun, Row, Size, Turn, at_least, interleave, row
from benchmarks.training import STUDENT, TEACHER
from reducenet import build, fuse, macs, to_onnx
from reducenet.learn.measure import latency

SHAPE = (1, 28, 28)  # (C, H, W)


def running(number: int, file: str, batch: int, seconds: float) -> Turn:
    """A turn: the seconds of one forward pass of this batch by onnxruntime, one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    x = np.zeros((batch, *SHAPE), dtype=np.float32)

    def turn() -> float:
        session.run(None, {"images": x})
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            session.run(None, {"images": x})
            count += 1
        return (time.perf_counter() - start) / count

    return turn


def eager(number: int, batch: int, seconds: float) -> Turn:
    """A turn: the same of the student, fused, by torch."""
    net = fuse(build(**STUDENT).eval())
    return lambda: latency(net, SHAPE, batch, seconds=seconds)["median"]


def onnx(size: Size) -> list[Row]:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise CannotRun(f'needs {" and ".join(missing)}: pip install "reducenet[export]"')
    nets = {"teacher": build(**TEACHER).eval(), "student": build(**STUDENT).eval()}
    paid = {name: macs(fuse(net), SHAPE) for name, net in nets.items()}
    promised = paid["teacher"] / paid["student"]
    rows = []
    with tempfile.TemporaryDirectory() as folder, Crew(1) as crew:
        files = {name: str(to_onnx(net, SHAPE, Path(folder) / f"{name}.onnx")) for name, net in nets.items()}
        turns = {(name, batch): crew.turn(running, file, batch, size.seconds) for name, file in files.items() for batch in (64, 1)}
        took = interleave(turns | {"eager": crew.turn(eager, 1, size.seconds)}, size.rounds)
    for batch, reach in ((64, at_least(0.9)), (1, None)):
        gains = [one / other for one, other in zip(took["teacher", batch], took["student", batch], strict=True)]
        rows.append(row(
            f"onnxruntime, student against teacher, batch {batch}", "times as fast", gains, [promised] * size.rounds, reach=reach,
            ours_is="seconds of the teacher over those of the student, one thread", reference_is="ratio of their MACs, fused",
            holds_back="Additions, ReLU and pooling read and write maps as well, every operation has a fixed cost, and MACs know none of "
            "it."))  # fmt: skip
    micro = {name: [1e6 * second for second in took[name]] for name in (("student", 1), "eager")}
    rows.append(row(
        "onnxruntime, student, one image", "µs", micro["student", 1], micro["eager"], ours_is="onnxruntime, one thread",
        reference_is="torch, fused, eager", agrees="to rounding: tests/test_export.py"))  # fmt: skip
    return rows
