"""Still mode: one frame to one packet and back to latents, knowing nothing of other frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from discover_stream.codec.atoms import CellMask, cell_grid, plan_atoms
from discover_stream.codec.entropy import LIMIT
from discover_stream.codec.latent import (
    coarse_state,
    decode_atom_mask,
    decode_atom_symbols,
    decode_coarse,
    encode_atom,
    encode_coarse,
    rebuild_atom,
    z_grid,
)
from discover_stream.codec.model import CodecModel
from discover_stream.codec.packet import (
    MAX_PIXELS,
    MAX_SIDE,
    Packet,
    PacketAtom,
    PacketRegion,
    whole_pixels,
)
from discover_stream.types import BitstreamError, Box, Frame, Image, InputError, Region

SCORE_STEPS = 63


@dataclass(frozen=True)
class LatentFrame:
    """A packet decoded up to the VAE's latent.

    Attributes:
        latent: (1, 16, H'/8, W'/8) z_c^, where H' and W' are the picture's sides padded to 64.
        sent: (rows, columns) of the picture's cells, true where an atom was received.
    """

    latent: Tensor
    sent: CellMask


def picture_tensor(image: Image) -> Tensor:
    """(H, W, 3) uint8 RGB -> (1, 3, H', W') in 0..1, sides padded to multiples of 64 by the last row and column."""
    height, width = image.shape[:2]
    rows, columns = z_grid(width, height)
    picture = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float().div_(255)
    padded = functional.pad(picture, (0, columns * 64 - width, 0, rows * 64 - height), mode="replicate")
    return padded.contiguous(memory_format=torch.channels_last)


def _check_frame(frame: Frame) -> None:
    image = frame.image
    where = f"camera {frame.camera}, seq {frame.seq}"
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"{where}: a picture must be (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}")
    height, width = image.shape[:2]
    if not 1 <= height <= MAX_SIDE or not 1 <= width <= MAX_SIDE or height * width > MAX_PIXELS:
        raise InputError(
            f"{where}: a picture of {width}x{height} is outside 1..{MAX_SIDE} a side and {MAX_PIXELS} pixels; resize it"
        )


def _packet_regions(
    regions: Mapping[str, Sequence[Region]], order: Sequence[str], width: int, height: int
) -> tuple[PacketRegion, ...]:
    """One record per physical region, shared by the tasks that see the same box and track."""
    records: list[tuple[Box, int, int, dict[int, int]]] = []
    for position, task in enumerate(order):
        for region in regions[task]:
            box = whole_pixels(region.box, width, height)
            if box.area <= 0:
                continue
            score = round(min(max(region.score, 0.0), 1.0) * SCORE_STEPS)
            for record in records:
                if record[:3] == (box, score, region.track) and position not in record[3]:
                    record[3][position] = region.label
                    break
            else:
                records.append((box, score, region.track, {position: region.label}))
    return tuple(PacketRegion(box, score, track, tuple(labels.items())) for box, score, track, labels in records)


@torch.inference_mode()
def encode_frame(
    model: CodecModel,
    frame: Frame,
    regions: Mapping[str, Sequence[Region]],
    keys: Mapping[str, int],
    *,
    quality: int,
    incarnation: int = 0,
) -> Packet:
    """Encode a frame once for all tasks.

    Args:
        model: the codec.
        frame: the picture and where it comes from.
        regions: per task name, its regions in this frame. Tasks without regions belong here too:
            they get the coarse atom.
        keys: per task name, its 16-bit key.
        quality: 1 (fewest bits) to 8.
        incarnation: of the encoder; goes up by one whenever it restarts.

    Raises:
        InputError: the picture, the quality or the regions are outside the format's bounds.
    """
    _check_frame(frame)
    if not 1 <= quality <= 8:
        raise InputError(f"quality {quality} is not in 1..8")
    height, width = frame.image.shape[:2]
    order = sorted(regions, key=lambda task: keys[task])
    level = torch.tensor([quality])
    scaled, z = model.network.analyse(picture_tensor(frame.image), level)
    symbols = (z[0] - model.medians).round().clamp(-LIMIT + 1, LIMIT - 1).numpy().astype(np.int64)
    coarse = coarse_state(model, symbols, quality)
    atoms = [
        PacketAtom(
            tuple(order.index(task) for task in sorted(plan.tasks, key=lambda task: keys[task])),
            encode_atom(model, coarse, scaled, plan.mask),
        )
        for plan in plan_atoms(regions, width, height)
    ]
    return Packet(
        model=model.short_hash,
        quality=quality,
        seq=frame.seq,
        incarnation=incarnation,
        capture_ns=frame.capture_ns,
        width=width,
        height=height,
        tasks=tuple(keys[task] for task in order),
        regions=_packet_regions(regions, order, width, height),
        coarse=encode_coarse(model, symbols),
        atoms=tuple(atoms),
    )


@torch.inference_mode()
def decode_packet(model: CodecModel, packet: Packet, *, camera: str = "?") -> LatentFrame:
    """Decode a packet, of whichever tasks, up to the VAE's latent.

    Raises:
        BitstreamError: the packet is of another model, or its strings do not decode.
    """
    where = f"camera {camera}, seq {packet.seq}"
    if packet.model != model.short_hash:
        raise BitstreamError(
            f"{where}: made with model {packet.model.hex()}, the model loaded here is {model.short_hash.hex()};"
            " decode with the version of discover-stream that made it"
        )
    try:
        return _decode_latent(model, packet)
    except BitstreamError as error:
        raise BitstreamError(f"{where}: {error}") from None


def _decode_latent(model: CodecModel, packet: Packet) -> LatentFrame:
    rows, columns = cell_grid(packet.width, packet.height)
    z_rows, z_columns = z_grid(packet.width, packet.height)
    coarse = coarse_state(model, decode_coarse(model, packet.coarse, z_rows, z_columns), packet.quality)
    sent: CellMask = np.zeros((rows, columns), dtype=bool)
    canvas = torch.zeros(1, model.network.config.y_channels, z_rows * 4, z_columns * 4)
    for atom in packet.atoms:
        mask, string = decode_atom_mask(atom.payload, rows, columns)
        if (sent & mask).any():
            raise BitstreamError("two atoms hold the same cell")
        sent |= mask
        symbols = decode_atom_symbols(model, coarse, string, mask)
        window, values = rebuild_atom(model, coarse, symbols, mask)
        canvas[:, :, window.rows, window.columns] += values
    field = torch.zeros(1, 1, z_rows * 4, z_columns * 4)
    field[0, 0, :rows, :columns] = torch.from_numpy(sent).float()
    latent = model.network.synthesise(canvas, field, coarse.z_hat, torch.tensor([packet.quality]))
    return LatentFrame(latent, sent)
