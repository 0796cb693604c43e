"""What net.js does with a program, to be read: in numpy, float64, for a batch of images. Tests hold both against torch."""

import base64
from collections.abc import Mapping

import numpy as np


def run_program(program: dict, images: np.ndarray, knobs: Mapping[str, float] = {}) -> dict[str, np.ndarray]:
    """`run_program(program(net, shape), x)["logits"] == net(x)`, and every other named value, [N, C, H, W].

    `images` are normalised, [N, C, H, W]; `knobs` are moved, the others stay where the network has them.
    """
    numbers = np.frombuffer(base64.b64decode(program["weights"]), "<f4").astype(np.float64)
    knobs, values = program["knobs"] | dict(knobs), []
    for op in program["ops"]:
        inputs = [values[i] for i in op["in"]] or [images.astype(np.float64)]
        values.append(_KINDS[op["op"]](op, numbers, knobs.get(op.get("knob"), 0.0), *inputs))
    named = {name: values[i] for name, i in program["names"].items()}
    return named | {"logits": named["logits"].squeeze((2, 3)) if named["logits"].shape[2:] == (1, 1) else named["logits"]}


def _conv(op, numbers, _, x):
    (out, *_), groups, window = op["shape"], op["groups"], _windows(op, x, 0.0)  # [N, C, H', W', k, k]
    size = x.shape[1] // groups * op["kernel"][0] * op["kernel"][1]
    weight = _cut(numbers, op["weight"], out * size).reshape(groups, out // groups, size)
    window = np.moveaxis(window, 1, 3).reshape(*window.shape[:1], *window.shape[2:4], groups, size)  # [N, H', W', groups, size]
    made = np.einsum("nhwgs,gos->ngohw", window, weight).reshape(len(x), *op["shape"])
    return made + _column(numbers, op["bias"], out)


def _bn(op, numbers, _, x):
    gamma, beta, mean, var = (_column(numbers, op["weight"] + i * x.shape[1], x.shape[1]) for i in range(4))
    return gamma * (x - mean) / np.sqrt(var + op["eps"]) + beta


def _windows(op, x, beyond):
    """[N, C, H', W', k, k]: what each output pixel sees; `beyond` is what lies outside of the map."""
    (_, height, width), (down, right) = op["shape"], op["stride"]
    (top, left), (tall, wide) = op["padding"], op["kernel"]
    bottom, far = (height - 1) * down + tall - top - x.shape[2], (width - 1) * right + wide - left - x.shape[3]
    padded = np.pad(x, ((0, 0), (0, 0), (top, max(bottom, 0)), (left, max(far, 0))), constant_values=beyond)
    return np.lib.stride_tricks.sliding_window_view(padded, (tall, wide), (2, 3))[:, :, ::down, ::right][:, :, :height, :width]


def _cut(numbers, start, length):
    return numbers[start : start + length]


def _column(numbers, start, channels):
    return _cut(numbers, start, channels)[:, None, None]


_KINDS = {
    "input": lambda op, numbers, knob, x: x,
    "conv": _conv,
    "bn": _bn,
    "relu": lambda op, numbers, lam, x: np.where(x > 0, x, lam * x),
    "scale": lambda op, numbers, knob, x: knob * x,
    "add": lambda op, numbers, knob, x, y: x + y,
    "max": lambda op, numbers, knob, x: _windows(op, x, -np.inf).max((4, 5)),
    "mean": lambda op, numbers, knob, x: x.mean((2, 3), keepdims=True),
}
