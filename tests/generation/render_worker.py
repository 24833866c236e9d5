"""Renders a simulated street in a process of its own: a digest with one thread, the pictures with two.

python render_worker.py FILE
"""

from __future__ import annotations

import hashlib
import sys

import numpy as np
import torch

from discover_stream.codec.model import shipped_weights
from discover_stream.generation.canvas import Canvas
from discover_stream.generation.render import Renderer, RenderJob
from discover_stream.generation.sampling import SamplePlan
from discover_stream.generation.vae import encode_picture
from discover_stream.types import Image, Provenance
from discover_stream.video.simulate import SimulatedCamera

WIDTH, HEIGHT = 320, 192


def street(renderer: Renderer, seq: int = 40) -> RenderJob:
    """A simulated street as its VAE has it, with a part of its cells sent."""
    camera = SimulatedCamera("street", seed=3, width=WIDTH, height=HEIGHT)
    picture = torch.from_numpy(camera.render(seq)[0].image).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        latent = encode_picture(renderer.vae, picture)
    received = np.full((HEIGHT // 16, WIDTH // 16), Provenance.MISSING, np.uint8)
    received[3:6, 4:8], received[8:10, 14:17] = Provenance.SENT, Provenance.PLATE
    latent = latent * torch.from_numpy(received > 0).repeat_interleave(2, 0).repeat_interleave(2, 1)
    return RenderJob(latent, received, WIDTH, HEIGHT, "street", plate=7)


def into_grey(job: RenderJob) -> Canvas:
    """A grey picture into which a job's received cells are to be rendered."""
    image = np.full((job.height, job.width, 3), 128, np.uint8)
    return Canvas(image, np.full(job.provenance.shape, Provenance.PLATE, np.uint8), job.provenance > 0)


def rendered(renderer: Renderer, threads: int) -> Image:
    """The whole picture above the same rendered only where it was received."""
    torch.set_num_threads(threads)
    job = street(renderer)
    region = RenderJob(**(vars(job) | {"canvas": into_grey(job)}))
    plan = SamplePlan(2)
    return np.vstack([renderer.render_many([one], plan)[0].image for one in (job, region)])


def main() -> None:
    """See the module."""
    renderer = Renderer.load(shipped_weights())
    sys.stdout.write(hashlib.sha256(rendered(renderer, 1).tobytes()).hexdigest())
    np.save(sys.argv[1], rendered(renderer, 2))


if __name__ == "__main__":
    main()
