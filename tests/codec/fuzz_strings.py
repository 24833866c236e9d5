"""Targets of the fuzzer that are single strings: see `fuzz_targets.py`."""

from __future__ import annotations

from random import Random

import numpy as np
import torch
from codec_cases import random_atom
from fuzz_mutators import LENGTH_BYTES, Raw, join, split
from fuzz_target import Outcome, Pictures, Target, parse_memory, same

from discover_stream.codec.av1 import decode_av1, encode_av1
from discover_stream.codec.conditional import (
    AtomShape,
    Known,
    decode_symbols,
    decode_z,
    encode_symbols,
    encode_y,
    encode_z,
    z_shape,
)
from discover_stream.codec.entropy import SymbolCoder
from discover_stream.codec.model import CodecModel
from discover_stream.types import BitstreamError


def coder_target(codec: CodecModel) -> Target:
    """Coder strings alone: two bytes say how many positions z has, the rest is a string."""
    coder: SymbolCoder = codec.z_coder
    channels = codec.network.config.z_channels

    def run(data: bytes) -> Outcome:
        if len(data) < 2:
            return Outcome.REFUSED
        shape = channels, data[0] % 5, data[1] % 5
        try:
            symbols = coder.decode_planes(data[2:], shape)
        except BitstreamError:
            return Outcome.REFUSED
        same("string written again", coder.encode_planes(symbols) if symbols.size else b"", data[2:])
        return Outcome.DECODED

    random = np.random.default_rng(3)
    seeds = []
    for wide in (0, 1, 2, 5, 40, 5000):
        symbols = np.rint(random.normal(0, wide, (channels, 1 + wide % 4, 2))).astype(np.int64)
        seeds.append(bytes(symbols.shape[1:]) + coder.encode_planes(symbols))
    return Target("coder", tuple(seeds), run, lambda _random, raw, data: data[:2] + raw(data[2:]), None, parse_memory)


def atom_target(model: CodecModel) -> Target:
    """An atom with a z of its own: what its packet says of it (six bytes), its strings of z and y."""

    def shape_of(head: bytes) -> AtomShape:
        rows, columns = (4 * (1 + head[index] % 4 // 2) for index in range(2))
        full = head[4] % 4 == 0
        mask = np.random.default_rng(head[5]).random((rows, columns)) < (2.0 if full else head[4] / 256)
        return AtomShape(mask, 1 + head[2] % 8, head[3] % 3, head[3] >> 2 & 1, head[3] >> 3 & 1)

    def run(data: bytes) -> Outcome:
        if len(data) < 6:
            return Outcome.REFUSED
        shape = shape_of(data)
        strings = [*split(data[6:], 2), b"", b""]
        z: np.ndarray = np.zeros(z_shape(model, shape.mask), np.int64)
        try:
            if data[3] & 64:
                z = decode_z(model, strings[0], z_shape(model, shape.mask))
                same("string of z written again", encode_z(model, z), strings[0])
        except BitstreamError:
            return Outcome.REFUSED
        known = Known(z, torch.zeros(0))
        try:
            (symbols,) = decode_symbols(model, [(known, shape)], strings[1:2])
        except BitstreamError:
            return Outcome.PARSED
        same("cells outside the mask", bool(symbols[:, ~shape.mask].any()), False)
        same("string of y written again", encode_symbols(model, [(known, shape)], [symbols]), strings[1:2])
        return Outcome.DECODED

    def bend(random: Random, raw: Raw, data: bytes) -> bytes:
        parts = [*split(data[6:], 2), b"", b""][:2]
        place = random.randrange(3)
        if place == 2:
            return bytes(random.randrange(256) if random.random() < 0.3 else byte for byte in data[:6]) + data[6:]
        parts[place] = raw(parts[place])
        return data[:6] + join([part[: 256**LENGTH_BYTES - 1] for part in parts])

    seeds = []
    random = Random(5)
    with torch.inference_mode():
        for seed in range(24):
            head = random.randbytes(6)
            shape = shape_of(head)
            rows, columns = shape.mask.shape
            known, _, y = random_atom(model, seed, rows // 4, columns // 4)
            y /= 1 + seed % 8
            z = known.z if head[3] & 64 else np.zeros_like(known.z)
            string, _ = encode_y(model, Known(z, known.reference), shape, y)
            seeds.append(head + join([encode_z(model, z) if head[3] & 64 else b"", string]))
    # Symbols, context and tables of 64 cells.
    return Target("atom", tuple(seeds), run, bend, None, lambda n: parse_memory(n) + 2**23)


def av1_target(picture_of: Pictures) -> Target:
    """Stripped AV1 stills: two bytes of sides, then what is sent."""

    def run(data: bytes) -> Outcome:
        if len(data) < 2:
            return Outcome.REFUSED
        width, height = 1 + data[0] % 80, 1 + data[1] % 80
        try:
            picture = decode_av1(data[2:], width, height)
        except BitstreamError:
            return Outcome.REFUSED
        same("shape of the picture", (picture.shape, picture.dtype), ((height, width, 3), np.uint8))
        return Outcome.DECODED

    seeds = []
    for seed, (width, height) in enumerate(((16, 16), (48, 80), (33, 7))):
        for quantizer in (20, 50) if seed == 1 else (40,):
            picture = picture_of(height, width, seed)
            smooth = (np.indices((height, width)).sum(0)[..., None] + np.zeros(3)).astype(np.uint8)
            sides = bytes((width - 1, height - 1))
            seeds += [sides + encode_av1(samples, quantizer) for samples in (picture, smooth)]
    # A picture of its size many times over, and what the decoder holds for itself.
    return Target("av1", tuple(seeds), run, lambda _random, raw, data: data[:2] + raw(data[2:]), None, av1_memory)


def av1_memory(size: int) -> int:
    """For sides of at most 80 samples: the decoder's own threads and buffers are most of it."""
    return parse_memory(size) + 2**28
