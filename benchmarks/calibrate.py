"""Measure the statistics that a decoder's norms are fixed with, and write them beside its weights.

    python -m benchmarks.calibrate --data ../shared/data [--weights FOLDER] [--frames 3]

Pictures are of the first halves of the clips whose first halves trained the weights, and of simulated streets with
seeds of training; each is coded for the task `vehicles` with the shipped codec of the folder, at two qualities. The
file is `norms.safetensors`; a decoder that is trained again needs it measured again (the loader says so).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from discover_stream.codec.model import MODEL_FILE, load_codec, shipped_weights
from discover_stream.codec.still import decode_packet, encode_frame
from discover_stream.generation.noise import cell_noise
from discover_stream.generation.norms import NORMS_FILE, TIMESTEPS, measure_norms, write_norms
from discover_stream.generation.render import Renderer
from discover_stream.generation.windows import Window
from discover_stream.semantics.grounder import NanoGrounder
from discover_stream.semantics.labels import builtin_tasks
from discover_stream.types import Frame, Image
from discover_stream.video.simulate import SimulatedCamera
from discover_stream.video.source import open_source

CLIPS = ("suburb", "topdown", "carpark", "motorway_fog")
SEEDS = (1003, 1008)
QUALITIES = (2, 4)
TASK = "vehicles"


def pictures(data: Path, frames: int) -> list[tuple[str, Image]]:
    """Pictures that training has seen, each with its camera."""
    found: list[tuple[str, Image]] = []
    for name in CLIPS:
        with open_source(str(data / "video" / f"{name}.mp4"), camera=name) as source:
            images = [frame.image for frame in source]
        found += [(name, images[i]) for i in np.linspace(0, len(images) // 2 - 1, frames).astype(int)]
    for seed in SEEDS:
        camera = SimulatedCamera(f"sim-{seed}", seed=seed)
        found += [(f"sim-{seed}", camera.render(30 + 40 * i)[0].image) for i in range(frames)]
    return found


def received(weights: Path, shown: list[tuple[str, Image]]) -> list[tuple[str, Tensor, Tensor]]:
    """What the codec leaves of pictures: camera, z_c^ (1, L, h, w), and which latents were sent (1, 1, h, w)."""
    model, grounder, task = load_codec(weights / MODEL_FILE), NanoGrounder.load(), builtin_tasks()[TASK]
    found = []
    for camera, image in shown:
        (regions,) = grounder.ground([image], [task.label_set])
        for quality in QUALITIES:
            packet = encode_frame(model, Frame(camera, 0, 0, image), regions, {TASK: 1}, quality=quality)
            frame = decode_packet(model, packet)
            sent = torch.zeros(1, 1, *frame.latent.shape[2:])
            fine = frame.sent.repeat(2, axis=0).repeat(2, axis=1)
            sent[0, 0, : fine.shape[0], : fine.shape[1]] = torch.from_numpy(fine).float()
            found.append((camera, frame.latent, sent))
    return found


@torch.inference_mode()
def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=shipped_weights())
    parser.add_argument("--frames", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    renderer = Renderer.load(given.weights, fixed=False)
    examples = received(given.weights, pictures(given.data, given.frames))

    def run(timestep: int) -> None:
        print(f"timestep {timestep}", flush=True)
        for camera, latent, sent in examples:
            noise = cell_noise(camera, 0, latent.shape[1], latent.shape[2], latent.shape[3])
            renderer.generator.probe(latent, sent, noise, timestep)
            if renderer.decoder.networks:
                renderer.decoder.decode(latent, Window(0, 0, latent.shape[2], latent.shape[3]))

    networks = {**renderer.generator.networks, **renderer.decoder.networks}
    write_norms(given.weights / NORMS_FILE, measure_norms(networks, run, TIMESTEPS))
    print(f"{given.weights / NORMS_FILE}: {(given.weights / NORMS_FILE).stat().st_size} bytes")


if __name__ == "__main__":
    main()
