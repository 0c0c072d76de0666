"""Tiny networks in ONNX, as insightface's packs have them, and what insightface does with them, written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

WHY = "the extra `faces` and onnx are not installed"
KINDS = ((1, "score"), (4, "box"), (10, "points"))
STRIDES = (8, 16, 32)


def detector(path: Path, *, seed: int = 0, batched: bool = False, side: int | None = None) -> Path:
    """A convolution for each map, two guesses at each place; the order of what it returns is that of SCRFD.

    batched: maps begin with the number of images; side: it reads images of this side alone.
    """
    onnx = pytest.importorskip("onnx", reason=WHY)
    make, numbers = onnx.helper, np.random.default_rng(seed)
    nodes: list[Any] = []
    weights: list[Any] = []
    outputs: list[Any] = []
    for width, kind in KINDS:
        shape = onnx.numpy_helper.from_array(np.array([1, -1, width] if batched else [-1, width]), f"{kind}_shape")
        weights.append(shape)
        for stride in STRIDES:
            name = f"{kind}_{stride}"
            spread = {"score": 2.0, "box": 1.0, "points": 2.0}[kind] / stride
            kernel = numbers.normal(0, spread, (2 * width, 3, stride, stride)).astype(np.float32)
            if kind == "score":  # what is black is no face
                kernel -= kernel.mean((1, 2, 3), keepdims=True)
            bias = np.full(2 * width, {"score": -1.0, "box": 2.0, "points": 0.0}[kind], np.float32)
            weights += [
                onnx.numpy_helper.from_array(kernel, f"{name}_w"),
                onnx.numpy_helper.from_array(bias, f"{name}_b"),
            ]
            names = [f"{name}_{step}" for step in ("map", "last", "flat")]
            inputs = ["image", f"{name}_w", f"{name}_b"]
            nodes.append(make.make_node("Conv", inputs, names[:1], kernel_shape=[stride] * 2, strides=[stride] * 2))
            nodes.append(make.make_node("Transpose", names[:1], names[1:2], perm=[0, 2, 3, 1]))
            nodes.append(
                make.make_node("Reshape", [names[1], f"{kind}_shape"], [name if kind != "score" else names[2]])
            )
            if kind == "score":
                nodes.append(make.make_node("Sigmoid", [names[2]], [name]))
            shown = [1, None, width] if batched else [None, width]
            outputs.append(make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shown))
    return _saved(onnx, path, nodes, weights, outputs, [1, 3, side or "h", side or "w"])


def red_detector(path: Path) -> Path:
    """Finds a face where an image is red; of two, the one with more blue in it is larger.

    Guesses of the second map alone count, one at each place: a square around it, the eyes to the left and to the right
    above its middle, the corners of the mouth below. A face has to be as large as 32 pixels of a canvas.
    """
    onnx = pytest.importorskip("onnx", reason=WHY)
    make, nodes, weights, outputs = onnx.helper, list[Any](), list[Any](), list[Any]()
    for width, kind in KINDS:
        weights.append(onnx.numpy_helper.from_array(np.array([-1, width]), f"{kind}_shape"))
        for stride in STRIDES:
            name = f"{kind}_{stride}"
            kernel, bias = _red(width, kind, stride)
            weights += [
                onnx.numpy_helper.from_array(kernel, f"{name}_w"),
                onnx.numpy_helper.from_array(bias, f"{name}_b"),
            ]
            last = name if kind != "score" else f"{name}_flat"
            inputs = ["image", f"{name}_w", f"{name}_b"]
            nodes.append(
                make.make_node("Conv", inputs, [f"{name}_map"], kernel_shape=[stride] * 2, strides=[stride] * 2)
            )
            nodes.append(make.make_node("Transpose", [f"{name}_map"], [f"{name}_last"], perm=[0, 2, 3, 1]))
            nodes.append(make.make_node("Reshape", [f"{name}_last", f"{kind}_shape"], [last]))
            if kind == "score":
                nodes.append(make.make_node("Sigmoid", [last], [name]))
            outputs.append(make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, width]))
    return _saved(onnx, path, nodes, weights, outputs, [1, 3, "h", "w"])


REACH = 4.0
"""Strides from the middle of a face without blue to the sides of its box."""
POINTS = (-1.0, -1.0, 1.0, -1.0, 0.0, 0.0, -0.8, 1.0, 0.8, 1.0)
"""Strides from there to its points, x and y of each."""


def _red(width: int, kind: str, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """The kernel (2 width, 3, stride, stride) and the bias of a map."""
    kernel, bias = np.zeros((2 * width, 3, stride, stride), np.float32), np.zeros(2 * width, np.float32)
    area = stride * stride
    if kind == "score":
        bias[:] = -30 if stride == 16 else -1e4
        bias[width:] = -1e4
        kernel[:width, 0], kernel[:width, 1] = 20 / area, -20 / area
    if kind == "box":
        bias[:], kernel[:, 2] = REACH, 1 / area
    if kind == "points":
        bias[:] = POINTS * 2
    return kernel, bias


def embedder(path: Path, seed: int = 1) -> Path:
    """The means of 49 squares, and one layer."""
    onnx = pytest.importorskip("onnx", reason=WHY)
    make, numbers = onnx.helper, np.random.default_rng(seed)
    matrix = numbers.normal(0, 0.1, (147, 512)).astype(np.float32)
    nodes = [
        make.make_node("AveragePool", ["image"], ["pooled"], kernel_shape=[16, 16], strides=[16, 16]),
        make.make_node("Flatten", ["pooled"], ["flat"]),
        make.make_node("MatMul", ["flat", "matrix"], ["embedding"]),
    ]
    outputs = [make.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, [1, 512])]
    return _saved(onnx, path, nodes, [onnx.numpy_helper.from_array(matrix, "matrix")], outputs, [1, 3, 112, 112])


def _saved(onnx: Any, path: Path, nodes: Any, weights: Any, outputs: Any, shape: Any) -> Path:
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, shape)
    graph = onnx.helper.make_graph(nodes, "tiny", [image], outputs, weights)
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def maps_of(path: Path, canvas: np.ndarray) -> list[np.ndarray]:
    """What a detector returns for a canvas of 0 to 255: scores, boxes and points of each stride."""
    runtime = pytest.importorskip("onnxruntime", reason=WHY)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    image = ((canvas.astype(np.float32) - 127.5) / 128).transpose(2, 0, 1)[None]
    return [own.reshape(-1, own.shape[-1]) for own in session.run(None, {"image": image})]


def limit(maps: list[np.ndarray], count: int = 40) -> float:
    """A threshold that so many guesses reach."""
    scores = np.sort(np.concatenate([own[:, 0] for own in maps[:3]]))[::-1]
    assert scores[count - 1] > scores[count]
    return float(scores[count - 1] + scores[count]) / 2


def expected(
    maps: list[np.ndarray], canvas: np.ndarray, threshold: float
) -> list[tuple[float, list[float], list[float]]]:
    """(score, box, points) of what a detector finds, one guess after the other."""
    guesses: list[tuple[float, list[float], list[float]]] = []
    for level, stride in enumerate(STRIDES):
        scores, boxes, points = maps[level], maps[level + 3], maps[level + 6]
        index = 0
        for row in range(canvas.shape[0] // stride):
            for column in range(canvas.shape[1] // stride):
                for _ in range(2):
                    if scores[index, 0] >= threshold:
                        x, y, d, p = column * stride, row * stride, boxes[index] * stride, points[index] * stride
                        box = [x - d[0], y - d[1], x + d[2], y + d[3]]
                        spots = [v + (x, y)[i % 2] for i, v in enumerate(p)]
                        guesses.append((float(scores[index, 0]), box, spots))
                    index += 1
    return _suppressed(sorted(guesses, key=lambda guess: -guess[0]))


def _suppressed(guesses: list[Any]) -> list[Any]:
    kept: list[Any] = []
    for guess in guesses:
        if all(_overlap(guess[1], other[1]) <= 0.4 for other in kept):
            kept.append(guess)
    return kept


def _overlap(a: list[float], b: list[float]) -> float:
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
    own = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return wide * high / (sum(own) - wide * high)
