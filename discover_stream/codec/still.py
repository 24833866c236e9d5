"""Still mode: one frame to one packet and back to latents, knowing nothing of other frames."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from discover_stream.codec.atoms import CellMask, cell_grid, plan_atoms
from discover_stream.codec.conditional import z_symbols
from discover_stream.codec.latent import (
    coarse_state,
    decode_atom_mask,
    decode_atoms_symbols,
    decode_coarse,
    encode_atoms,
    encode_coarse,
    no_reference,
    rebuild_atom,
    z_grid,
)
from discover_stream.codec.model import CodecModel
from discover_stream.codec.network import Y_STRIDE
from discover_stream.codec.packet import (
    KEY_BITS,
    MAX_ATOMS,
    MAX_LABEL,
    MAX_PIXELS,
    MAX_REGIONS,
    MAX_SIDE,
    MAX_TASKS,
    MAX_TRACK,
    Packet,
    PacketAtom,
    PacketRegion,
    whole_pixels,
)
from discover_stream.types import BitstreamError, Box, Frame, Image, InputError, Region, TaskOptions

SCORE_STEPS = 63
MASK_CELLS = 2**24
"""Cells of the masks that a decoder holds at once."""
_PLAIN = TaskOptions()


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
    # A copy, since pictures may be read-only (shared memory), which torch does not know.
    picture = torch.from_numpy(np.array(image, order="C")).permute(2, 0, 1)[None].float().div_(255)
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


def _check_tasks(where: str, regions: Mapping[str, Sequence[Region]], keys: Mapping[str, int]) -> None:
    if len(regions) > MAX_TASKS:
        raise InputError(f"{where}: {len(regions)} tasks exceed the bound of {MAX_TASKS}; encode fewer at once")
    seen: dict[int, str] = {}
    for task in regions:
        key = keys.get(task, -1)
        if not 0 <= key < 2**KEY_BITS:
            raise InputError(f"{where}: task {task!r} has no key of {KEY_BITS} bits; give it one")
        if key in seen:
            raise InputError(f"{where}: tasks {seen[key]!r} and {task!r} share the key {key}; rename one of them")
        seen[key] = task


def _check_region(where: str, task: str, region: Region) -> None:
    box = region.box
    if any(math.isnan(value) for value in (region.score, box.x0, box.y0, box.x1, box.y1)):
        raise InputError(f"{where}: a region of task {task!r} holds a value that is not a number: {region}")
    if not 0 <= region.label <= MAX_LABEL or not 0 <= region.track <= MAX_TRACK:
        raise InputError(
            f"{where}: a region of task {task!r} has label {region.label} and track {region.track},"
            f" the bounds are {MAX_LABEL} and {MAX_TRACK}"
        )


def _regions_inside(
    where: str, regions: Mapping[str, Sequence[Region]], width: int, height: int
) -> dict[str, list[Region]]:
    """The regions that show in the picture, their boxes as packets carry them: in whole pixels, cut to it."""
    inside: dict[str, list[Region]] = {}
    for task, listed in regions.items():
        inside[task] = []
        for region in listed:
            _check_region(where, task, region)
            cut = region.box.clipped(width, height)
            if cut.x0 < cut.x1 and cut.y0 < cut.y1:
                inside[task].append(dataclasses.replace(region, box=whole_pixels(cut, width, height)))
    return inside


def _packet_regions(regions: Mapping[str, Sequence[Region]], order: Sequence[str]) -> tuple[PacketRegion, ...]:
    """One record per physical region, shared by the tasks that see the same box, score and track."""
    records: dict[tuple[Box, int, int], list[dict[int, int]]] = {}
    for position, task in enumerate(order):
        for region in regions[task]:
            score = round(min(max(region.score, 0.0), 1.0) * SCORE_STEPS)
            alike = records.setdefault((region.box, score, region.track), [])
            # The same box twice in one task, with two labels, is two records.
            labels = next((known for known in alike if position not in known), None)
            if labels is None:
                labels = {}
                alike.append(labels)
            labels[position] = region.label
    found = [PacketRegion(*key, tuple(labels.items())) for key, alike in records.items() for labels in alike]
    # By track: each is told by how far it is from the one before.
    return tuple(sorted(found, key=lambda region: region.track))


@torch.inference_mode()
def encode_frame(
    model: CodecModel,
    frame: Frame,
    regions: Mapping[str, Sequence[Region]],
    keys: Mapping[str, int],
    *,
    quality: int,
    incarnation: int = 0,
    options: Mapping[str, TaskOptions] | None = None,
    tags: Mapping[str, Sequence[int]] | None = None,
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
        options: per task name, how it is delivered; with pixels where it is not there. What only tasks without
            pixels cover is not coded; where no task wants pixels, nothing of the picture is.
        tags: per task name, ascending label indices of what is in the picture, for tasks that have tags.

    Raises:
        InputError: the picture, the quality or the regions are outside the format's bounds.
    """
    _check_frame(frame)
    where = f"camera {frame.camera}, seq {frame.seq}"
    if not 1 <= quality <= 8:
        raise InputError(f"{where}: quality {quality} is not in 1..8")
    _check_tasks(where, regions, keys)
    height, width = frame.image.shape[:2]
    regions = _regions_inside(where, regions, width, height)
    order = sorted(regions, key=lambda task: keys[task])
    seen = {task: found for task, found in regions.items() if (options or {}).get(task, _PLAIN).deliver == "pixels"}
    records, plans = _packet_regions(regions, order), plan_atoms(seen, width, height)
    if len(records) > MAX_REGIONS or len(plans) > MAX_ATOMS:
        raise InputError(
            f"{where}: {len(records)} regions in {len(plans)} atoms exceed the bounds of {MAX_REGIONS} and"
            f" {MAX_ATOMS}; keep the regions with the best scores"
        )
    packet = Packet(
        model=model.short_hash,
        quality=quality,
        seq=frame.seq,
        incarnation=incarnation,
        capture_ns=frame.capture_ns,
        width=width,
        height=height,
        tasks=tuple(keys[task] for task in order),
        regions=records,
        coarse=b"",
        atoms=(),
        tags=tuple((position, tuple(tags[task])) for position, task in enumerate(order) if tags and task in tags),
        regions_only=bool(order) and not seen,
    )
    if packet.regions_only:
        return packet
    y, symbols = analyse_still(model, picture_tensor(frame.image))
    coarse = coarse_state(model, symbols, quality)
    payloads = encode_atoms(model, coarse, y, [plan.mask for plan in plans])
    atoms = [
        PacketAtom(tuple(order.index(task) for task in sorted(plan.tasks, key=lambda task: keys[task])), payload)
        for plan, payload in zip(plans, payloads, strict=True)
    ]
    return dataclasses.replace(packet, coarse=encode_coarse(model, symbols), atoms=tuple(atoms))


def analyse_still(model: CodecModel, picture: Tensor) -> tuple[Tensor, npt.NDArray[np.int64]]:
    """y (1, M, H/16, W/16) before its gain, and symbols of z (N, H/64, W/64), of a picture (1, 3, H, W) without
    reference, see `picture_tensor`."""
    rows, columns = (side // Y_STRIDE for side in picture.shape[2:])
    y, z = model.network.analyse(picture, no_reference(model, rows, columns))
    return y, z_symbols(model, z)


@torch.inference_mode()
def decode_packet(model: CodecModel, packet: Packet, *, camera: str = "?") -> LatentFrame:
    """Decode a packet, of whichever tasks, up to the VAE's latent.

    Raises:
        BitstreamError: the packet is of another model, holds regions only, or its strings do not decode.
    """
    where = f"camera {camera}, seq {packet.seq}"
    if packet.regions_only:
        raise BitstreamError(f"{where}: it holds regions only and nothing of the picture; ask for a task with pixels")
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
    # Masks are of the whole frame's grid: those of all atoms at once could be gigabytes.
    together = max(1, MASK_CELLS // (rows * columns))
    for start in range(0, len(packet.atoms), together):
        masks: list[CellMask] = []
        strings: list[bytes] = []
        for atom in packet.atoms[start : start + together]:
            mask, string = decode_atom_mask(atom.payload, rows, columns)
            if (sent & mask).any():
                raise BitstreamError("two atoms hold the same cell")
            sent |= mask
            masks.append(mask)
            strings.append(string)
        for mask, symbols in zip(masks, decode_atoms_symbols(model, coarse, strings, masks), strict=True):
            window, values = rebuild_atom(model, coarse, symbols, mask)
            canvas[:, :, window.rows, window.columns] += values
    field = torch.zeros(1, 1, z_rows * 4, z_columns * 4)
    field[0, 0, :rows, :columns] = torch.from_numpy(sent).float()
    return LatentFrame(synthesise_still(model, canvas, field, coarse.z_hat), sent)


def synthesise_still(model: CodecModel, y_hat: Tensor, field: Tensor, z_hat: Tensor) -> Tensor:
    """z_c^ (1, L, 2h, 2w) of y^ (1, M, h, w), where it was sent (1, 1, h, w), and z^ (1, N, h/4, w/4); no reference."""
    network = model.network
    empty = y_hat.new_zeros(1, network.config.latent_channels + 1, 2 * y_hat.shape[2], 2 * y_hat.shape[3])
    return network.synthesise(y_hat, field, network.coarse(z_hat), no_reference(model, *y_hat.shape[2:]), empty)
