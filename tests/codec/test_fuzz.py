"""A little of `make fuzz` in every run of the tests: the same targets and damage, hypothesis in place of libFuzzer."""

from __future__ import annotations

import dataclasses
import tracemalloc
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from random import Random

import pytest
from fuzz_mutators import any_bits, any_bytes, file_parts, join, resealed, split
from fuzz_targets import Outcome, Target, all_targets
from hypothesis import given, settings
from hypothesis import strategies as st

from discover_stream.codec.model import CodecModel
from discover_stream.codec.records import Atom, Key, QuarterBox, Window
from discover_stream.codec.stream import StreamInfo, StreamTask, header_bytes, parse_body
from discover_stream.codec.stream_coding import stream_packet_bytes
from discover_stream.codec.stream_packet import MAX_PACKET_CELLS, StreamPacket
from discover_stream.types import BitstreamError, Image, InputError

NAMES = ("still", "stream", "sequence", "plates", "container", "coder", "atom", "av1")
FOUND = Path(__file__).with_name("fuzz_found.txt")
"""Inputs that once showed a fault: target and hex a line, after a comment that says which."""


@pytest.fixture(scope="module")
def targets(codec: CodecModel, picture_of: Callable[[int, int, int], Image]) -> dict[str, Target]:
    return all_targets(codec, picture_of)


def test_every_target_is_here(targets: dict[str, Target]) -> None:
    assert set(targets) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_seeds_are_accepted(targets: dict[str, Target], name: str) -> None:
    """Otherwise mutants of them would show nothing."""
    target = targets[name]
    outcomes = [target.run(seed) for seed in target.seeds]
    assert Outcome.REFUSED not in outcomes
    assert name == "stream" or outcomes.count(Outcome.DECODED) > len(outcomes) / 2
    assert target.intact is None or all(map(target.intact, target.seeds))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20)
@given(st.integers(0, 2**31), st.integers(0, 2**63))
def test_damage_is_refused_or_is_another_message(targets: dict[str, Target], name: str, number: int, seed: int) -> None:
    target, random = targets[name], Random(seed)
    source = target.seeds[number % len(target.seeds)]
    target.run(any_bytes(random, source))
    for _ in range(2 if name == "atom" else 25):
        target.run(target.bend(random, lambda part: any_bytes(random, part), source))


@pytest.mark.parametrize("name", ["still", "stream", "sequence", "container"])
def test_repaired_damage_has_checksums_that_fit(targets: dict[str, Target], name: str) -> None:
    """Otherwise nothing behind the checksums would be tested."""
    target, random = targets[name], Random(name)
    assert target.intact
    bent = [target.bend(random, lambda part: any_bytes(random, part), random.choice(target.seeds)) for _ in range(200)]
    assert sum(map(target.intact, bent)) > 190
    outcomes = [target.run(data) for data in bent]
    assert sum(outcome != Outcome.REFUSED for outcome in outcomes) > 20


def found() -> list[tuple[str, bytes]]:
    lines = FOUND.read_text(encoding="ascii").splitlines()
    return [(line.split()[0], bytes.fromhex(line.split()[1])) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize(("name", "data"), found())
def test_what_once_showed_a_fault_shows_none(targets: dict[str, Target], name: str, data: bytes) -> None:
    targets[name].run(data)


def test_a_few_bytes_cannot_ask_for_many_pictures() -> None:
    """Atoms of the largest grid there is cost a few bytes each, and seconds to decode."""
    box = QuarterBox(0, 0, 2**16, 2**16)
    atom = Atom(Window.around(box), None, 4, False, False, b"")
    keys = tuple(Key(slot, 1 + slot, box, 9, ((0, 1),), atom=atom) for slot in range(3))
    assert atom.window.rows * atom.window.columns == MAX_PACKET_CELLS // 2
    fields = StreamPacket(b"abc", 7, 0, 0, 7, (5,), capture_us=0, size=(16, 16), keys=keys[:2])
    assert len(stream_packet_bytes(fields)) < 99
    with pytest.raises(ValueError, match="grids of atoms and masks"):
        dataclasses.replace(fields, keys=keys)


def test_a_small_header_cannot_unpack_to_millions_of_labels() -> None:
    info = StreamInfo("gate", 16, 16, Fraction(25), b"abc", (StreamTask("t", 1, ("a",)),))
    body = zlib.decompress(file_parts(header_bytes(info))[0])
    assert body.endswith(b"\x91\xa1a")
    many = body[:-3] + b"\xdd" + (2**22).to_bytes(4, "big") + b"\xa1a" * 2**22
    packed = zlib.compress(many)
    assert len(packed) < 10_000
    tracemalloc.start()
    with pytest.raises(BitstreamError, match="length <= 32768"):
        parse_body(packed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * len(many)
    with pytest.raises(InputError, match="32769 labels"):
        StreamInfo("gate", 16, 16, Fraction(25), b"abc", (StreamTask("t", 1, ("a",) * 32769),))


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(0, 2**63))
def test_parts_come_back_and_bits_stay_bytes(parts: list[bytes], seed: int) -> None:
    assert split(join(parts), 9) == parts
    whole = b"".join(parts)
    assert resealed(resealed(whole)) == resealed(whole)
    assert abs(len(any_bits(Random(seed), whole)) - len(whole)) <= 4
