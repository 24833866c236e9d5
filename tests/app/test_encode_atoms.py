"""`discover encode --atoms`: who codes the objects of a stream, and that a decoder finds the codec by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from discover_stream.codec.container import DsvReader
from discover_stream.codec.model import load_codec
from discover_stream.codec.records import AtomCoding
from discover_stream.codec.stream_packet import StreamPacket

STREET = "sim://road?seconds=3&seed=3&fps=4"


def codings(path: Path) -> list[AtomCoding]:
    """How the atoms of a file's packets are coded."""
    with DsvReader(path) as reader:
        packets = [record.packet for record in reader]
    assert all(isinstance(packet, StreamPacket) and packet.model == load_codec().short_hash for packet in packets)
    return [atom.coding for packet in packets if isinstance(packet, StreamPacket) for atom, _ in packet.atoms()]


def test_objects_are_coded_by_av1_unless_the_learned_codec_is_asked_for(discover: Any, tmp_path: Path) -> None:
    plain, learned = tmp_path / "plain.dsv", tmp_path / "learned.dsv"
    common = ("encode", STREET, "--task", "vehicles", "--mode", "stream")
    discover(*common, "-o", plain)
    discover(*common, "--atoms", "auto", "-o", learned)
    assert set(codings(plain)) == {AtomCoding.AV1}
    assert AtomCoding.LATENT in codings(learned)
    discover("decode", learned, "--task", "vehicles", "-o", tmp_path / "learned")
    assert len(list((tmp_path / "learned").glob("*.png"))) == 12
