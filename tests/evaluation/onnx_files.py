"""Writes tiny ONNX files, field by field, so that tests need no exporter. Field numbers are those of onnx.proto."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FLOAT, UINT8, INT64 = 1, 2, 7


@dataclass(frozen=True)
class Node:
    """An operator with integer attributes."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: tuple[tuple[str, int], ...] = ()


def model(
    inputs: Mapping[str, tuple[int, Sequence[int | str]]],
    constants: Mapping[str, npt.NDArray[np.float32] | npt.NDArray[np.int64]],
    nodes: Sequence[Node],
    outputs: Mapping[str, tuple[int, Sequence[int | str]]],
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """The bytes of a model file: opset 13, IR version 8."""
    graph = b"".join(_bytes(1, _node(node)) for node in nodes) + _bytes(2, b"graph")
    graph += b"".join(_bytes(5, _tensor(name, value)) for name, value in constants.items())
    graph += b"".join(_bytes(11, _value(name, *kind)) for name, kind in inputs.items())
    graph += b"".join(_bytes(12, _value(name, *kind)) for name, kind in outputs.items())
    opset = _bytes(1, b"") + _int(2, 13)
    extra = b"".join(
        _bytes(14, _bytes(1, key.encode()) + _bytes(2, text.encode())) for key, text in (metadata or {}).items()
    )
    return _int(1, 8) + _bytes(7, graph) + _bytes(8, opset) + extra


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _node(node: Node) -> bytes:
    out = b"".join(_bytes(1, name.encode()) for name in node.inputs) + _bytes(2, node.output.encode())
    out += _bytes(4, node.operator.encode())
    for name, value in node.attributes:
        out += _bytes(5, _bytes(1, name.encode()) + _int(3, value) + _int(20, 2))
    return out


def _tensor(name: str, value: npt.NDArray[np.float32] | npt.NDArray[np.int64]) -> bytes:
    kind = {"float32": FLOAT, "int64": INT64}[value.dtype.name]
    dims = b"".join(_int(1, side) for side in value.shape)
    return dims + _int(2, kind) + _bytes(8, name.encode()) + _bytes(9, value.tobytes())


def _value(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(_bytes(1, _int(1, d) if isinstance(d, int) else _bytes(2, d.encode())) for d in shape)
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, _int(1, kind) + _bytes(2, dims)))
