"""A renderer on a device: a GPU in bfloat16 with CUDA graphs, or a CPU."""

from __future__ import annotations

from dataclasses import replace

import torch

from discover_stream.config_decoding import Hardware
from discover_stream.generation.graphs import CudaRecorder, RecordedCalls, RecordedDecoder
from discover_stream.generation.render import Renderer
from discover_stream.types import InputError


def on_hardware(renderer: Renderer, hardware: Hardware) -> Renderer:
    """The same renderer on some hardware; its networks are moved in place.

    Raises:
        InputError: the device is not there, or cannot do what is asked of it.
    """
    device = device_of(hardware)
    dtype = torch.bfloat16 if hardware.bfloat16 else torch.float32
    if device.type == "cpu" and dtype == torch.float32:
        return renderer
    renderer.generator.move(device, dtype)
    renderer.decoder.vae.to(device, dtype)
    if not hardware.graphs:
        return renderer
    calls = RecordedCalls(CudaRecorder())
    return replace(
        renderer,
        generator=renderer.generator.with_calls(calls),
        decoder=RecordedDecoder(renderer.decoder, calls),
    )


def device_of(hardware: Hardware) -> torch.device:
    """The device that is meant.

    Raises:
        InputError: it is not there, or CUDA graphs are asked for without a GPU.
    """
    name = hardware.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device {name}: there is no GPU that torch can use; set decoding.device to cpu or auto")
    if name.startswith("cuda:") and int(name.removeprefix("cuda:")) >= torch.cuda.device_count():
        raise InputError(f"device {name}: there are {torch.cuda.device_count()} GPUs, from 0 on; name one of them")
    if hardware.graphs and not name.startswith("cuda"):
        raise InputError("decoding.graphs: CUDA graphs need a GPU; leave them out, or set decoding.device to cuda")
    return torch.device(name)
