"""A decoder in a process of its own: it holds weights, and of each request nothing but the bytes that it brings.

Run as `python -I decode_worker.py FOLDER`, where FOLDER holds the installed package; requests and answers are
pickled, one after another, on stdin and stdout. Not imported by tests: they start it, see `exactness.py`.
"""

from __future__ import annotations

import pickle
import sys
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, sys.argv[1])

import torch

import discover_stream
from discover_stream.codec.atoms import cell_grid
from discover_stream.codec.conditional import AtomShape, Known, decode_symbols, decode_z, rebuild, z_shape
from discover_stream.codec.latent import coarse_state, decode_atom_mask, decode_atom_symbols, decode_coarse, z_grid
from discover_stream.codec.model import CodecModel, load_codec, shipped_weights
from discover_stream.codec.packet import Packet, parse_packet
from discover_stream.codec.still import decode_packet
from discover_stream.generation.render import load_vae
from discover_stream.generation.vae import decode_latent


@cache
def model_of(path: str | None, channels_last: bool) -> CodecModel:
    """The codec of a file, or the shipped one, in a memory format."""
    model = load_codec(Path(path) if path else None)
    model.network.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    return model


@cache
def vae() -> Any:
    return load_vae(shipped_weights() / "vae.safetensors")


def still_symbols(model: CodecModel, packet: Packet) -> tuple[Any, dict[bytes, Any]]:
    """Symbols of z, and of the atoms by their payloads."""
    rows, columns = cell_grid(packet.width, packet.height)
    z = decode_coarse(model, packet.coarse, *z_grid(packet.width, packet.height))
    coarse = coarse_state(model, z, packet.quality)
    atoms = {}
    for atom in packet.atoms:
        mask, string = decode_atom_mask(atom.payload, rows, columns)
        atoms[atom.payload] = decode_atom_symbols(model, coarse, string, mask)
    return z, atoms


def still(request: dict[str, Any]) -> dict[str, Any]:
    """Decode packets; latents if asked for; pictures, all at once or one by one, if asked for."""
    model = model_of(request["model"], request["channels_last"])
    packets = [parse_packet(data) for data in request["packets"]]
    answer: dict[str, Any] = {"symbols": [still_symbols(model, packet) for packet in packets]}
    if request["latents"]:
        decoded = [decode_packet(model, packet) for packet in packets]
        answer |= {"latents": [frame.latent.numpy() for frame in decoded], "sent": [frame.sent for frame in decoded]}
        if request["pictures"]:
            batch = request["batch"]
            stacks = [decoded[start : start + batch] for start in range(0, len(decoded), batch)]
            pictures = [decode_latent(vae(), torch.cat([frame.latent for frame in stack])) for stack in stacks]
            answer["pictures"] = list(torch.cat(pictures).clamp(0, 1).numpy())
    return answer


def atoms(request: dict[str, Any]) -> dict[str, Any]:
    """Decode atoms, `batch` at a time: (mask, quality, kind, top, left, string of z or symbols, reference, string)."""
    model = model_of(request["model"], request["channels_last"])
    asked, strings = [], []
    for mask, quality, kind, top, left, z, reference, string in request["atoms"]:
        symbols = decode_z(model, z, z_shape(model, mask)) if isinstance(z, bytes) else z
        seen = torch.from_numpy(reference)
        if request["channels_last"]:
            seen = seen.contiguous(memory_format=torch.channels_last)
        asked.append((Known(symbols, seen), AtomShape(mask, quality, kind, top, left)))
        strings.append(string)
    batch, found = request["batch"], []
    for start in range(0, len(asked), batch):
        found += decode_symbols(model, asked[start : start + batch], strings[start : start + batch])
    latents = [rebuild(model, *atom, symbols).numpy() for atom, symbols in zip(asked, found, strict=True)]
    return {"z": [known.z for known, _ in asked], "symbols": found, "latents": latents}


def main() -> None:
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    while True:
        request = pickle.load(requests)
        if request is None:
            return
        torch.set_num_threads(request["threads"])
        answer: Any
        try:
            with torch.inference_mode():
                answer = {"still": still, "atoms": atoms}[request["kind"]](request)
        except Exception as error:
            answer = error
        pickle.dump((discover_stream.__file__, answer), answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()


if __name__ == "__main__":
    main()
