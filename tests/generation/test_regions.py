import dataclasses
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import render_worker
import torch
from torch import Tensor

from discover_stream.codec.model import shipped_weights
from discover_stream.generation import render as render_module
from discover_stream.generation.canvas import Canvas
from discover_stream.generation.picture_decoder import TinyDecoder
from discover_stream.generation.render import Renderer, RenderJob
from discover_stream.generation.sampling import ChangeBounds, SamplePlan
from discover_stream.generation.windows import Window
from discover_stream.types import Image, InputError, Provenance

ONE = SamplePlan(1)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer.load(shipped_weights())


@pytest.fixture(scope="module")
def job(renderer: Renderer) -> RenderJob:
    torch.set_num_threads(1)
    return render_worker.street(renderer)


def psnr(one: Image, other: Image) -> float:
    error = np.square(one.astype(np.float64) - other).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def pixels(cells: np.ndarray, image: Image) -> np.ndarray:
    return cells.repeat(16, 0).repeat(16, 1)[: image.shape[0], : image.shape[1]]


@pytest.mark.parametrize("plan", [ONE, SamplePlan(4)])
def test_a_region_is_rendered_as_in_the_whole_picture(renderer: Renderer, job: RenderJob, plan: SamplePlan) -> None:
    assert renderer.local
    canvas = render_worker.into_grey(job)
    whole = renderer.render_many([job], plan)[0]
    region = renderer.render_many([dataclasses.replace(job, canvas=canvas)], plan)[0]
    inside = pixels(canvas.active, whole.image)
    assert psnr(region.image[inside], whole.image[inside]) >= 40
    assert psnr(canvas.image[inside], whole.image[inside]) < 30
    # Beyond the feather the canvas stays as it is, and what it is made of, too.
    far = ~pixels(_around(canvas.active), whole.image)
    assert far.any()
    assert (region.image[far] == 128).all()
    assert (region.provenance == np.where(canvas.active, job.provenance, Provenance.PLATE)).all()
    assert set(region.changed) >= {"sent", "plate"}


def _around(cells: np.ndarray) -> np.ndarray:
    grown = np.pad(cells, 1)
    rows, columns = cells.shape
    return np.any([grown[i : i + rows, j : j + columns] for i in range(3) for j in range(3)], axis=0)


def test_the_feather_leaves_no_edge(renderer: Renderer, job: RenderJob) -> None:
    """Rendered into the whole picture itself, a region changes next to nothing anywhere."""
    whole = renderer.render_many([job], ONE)[0]
    canvas = Canvas(whole.image, whole.provenance, job.provenance > 0)
    region = renderer.render_many([dataclasses.replace(job, canvas=canvas)], ONE)[0]
    assert int(np.abs(region.image.astype(int) - whole.image).max()) <= 6


def test_without_fixed_norms_a_region_is_taken_from_the_whole(job: RenderJob) -> None:
    plain = Renderer.load(shipped_weights(), fixed=False)
    assert not plain.local
    canvas = render_worker.into_grey(job)
    region = plain.render_many([dataclasses.replace(job, canvas=canvas)], ONE)[0].image
    inside = pixels(canvas.active, region)
    assert (region[inside] == plain.render_many([job], ONE)[0].image[inside]).all()
    assert (region[~pixels(_around(canvas.active), region)] == 128).all()


def test_pictures_rendered_together_are_those_rendered_one_by_one(renderer: Renderer, job: RenderJob) -> None:
    small = dataclasses.replace(
        job, latent=job.latent[:, :, :16, :24], provenance=job.provenance[:8, :12], width=192, height=128, camera="b"
    )
    still = dataclasses.replace(
        job, canvas=dataclasses.replace(render_worker.into_grey(job), active=job.provenance < 0)
    )
    jobs = [job, dataclasses.replace(job, canvas=render_worker.into_grey(job)), small, still]
    jobs.append(dataclasses.replace(jobs[1], camera="c"))
    together = renderer.render_many(jobs, ONE)
    for one, both in zip(jobs, together, strict=True):
        alone = renderer.render_many([one], ONE)[0]
        assert int(np.abs(alone.image.astype(int) - both.image).max()) <= 1
        assert (alone.provenance == both.provenance).all()
        assert alone.changed == pytest.approx(both.changed, rel=1e-4)
    assert (together[3].image == 128).all()
    assert not (together[1].image == together[4].image).all()


def test_what_was_not_rendered_was_not_changed(renderer: Renderer, job: RenderJob) -> None:
    active = job.provenance == Provenance.SENT
    beside = {Provenance(kind).name.lower() for kind in np.unique(job.provenance[_around(active) & ~active])}
    assert beside - {"sent"}  # its windows hold something else, too
    canvas = dataclasses.replace(render_worker.into_grey(job), active=active)
    (region,) = renderer.render_many([dataclasses.replace(job, canvas=canvas)], ONE)
    (whole,) = renderer.render_many([job], ONE)
    assert set(region.changed) == {"sent"}
    assert region.changed["sent"] == pytest.approx(whole.changed["sent"], rel=0.1)


class Watching:
    """A picture decoder that notes what it gets."""

    def __init__(self, decoder: TinyDecoder) -> None:
        self._decoder, self.seen = decoder, list[Tensor]()
        self.vae, self.channels, self.networks, self.reach = decoder.vae, decoder.channels, decoder.networks, 2

    def decode(self, latent: Tensor, inner: Window) -> Tensor:
        self.seen.append(latent)
        return self._decoder.decode(latent, inner)


def watched(
    renderer: Renderer, jobs: Sequence[RenderJob], bounds: ChangeBounds
) -> tuple[Watching, list[dict[str, float]]]:
    assert isinstance(renderer.decoder, TinyDecoder)
    watching = Watching(renderer.decoder)
    observed = dataclasses.replace(renderer, decoder=watching, bounds=bounds)
    return watching, [dict(one.changed) for one in observed.render_many(jobs, SamplePlan(3))]


def test_a_large_picture_is_rendered_in_tiles_like_the_whole(
    renderer: Renderer, job: RenderJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = renderer.render_many([job], ONE)[0]
    monkeypatch.setattr(render_module, "WHOLE_AT_ONCE", 100)
    monkeypatch.setattr(render_module, "TILE", 8)
    monkeypatch.setattr(render_module, "TILE_REACH", 8)
    monkeypatch.setattr(render_module, "BATCH_LATENTS", 1000)
    tiles = renderer.render_many([job], ONE)[0]
    assert psnr(tiles.image, whole.image) >= 40
    assert (tiles.provenance == whole.provenance).all()
    assert tiles.changed == pytest.approx(whole.changed, rel=0.05)
    watching, _ = watched(renderer, [job], ChangeBounds())
    assert max(len(latent) * latent.shape[2] * latent.shape[3] for latent in watching.seen) <= 1000
    # Of a region, only the tiles around it.
    active = np.zeros(job.provenance.shape, bool)
    active[3:6, 4:8] = True
    canvas = dataclasses.replace(render_worker.into_grey(job), active=active)
    monkeypatch.setattr(render_module, "WHOLE_AT_ONCE", 10)
    region = renderer.render_many([dataclasses.replace(job, canvas=canvas)], ONE)[0]
    inside = pixels(active, whole.image)
    assert psnr(region.image[inside], whole.image[inside]) >= 40
    assert (region.image[~pixels(_around(active), whole.image)] == 128).all()


def test_no_step_changes_what_was_received_beyond_its_bound(renderer: Renderer, job: RenderJob) -> None:
    free, (changed,) = watched(renderer, [job], ChangeBounds(9.0, 9.0, 9.0))
    tight, (less,) = watched(renderer, [job], ChangeBounds(sent=0.01, plate=0.02, propagated=0.0))
    kinds = torch.from_numpy(job.provenance).repeat_interleave(2, 0).repeat_interleave(2, 1)
    for kind, bound in ((Provenance.SENT, 0.01), (Provenance.PLATE, 0.02)):
        here = (0, slice(None), kinds == int(kind))
        assert float((free.seen[0] - job.latent)[here].abs().max()) > bound
        assert float((tight.seen[0] - job.latent)[here].abs().max()) <= bound + 1e-6
        assert less[kind.name.lower()] <= bound < changed[kind.name.lower()] + bound
        assert less[kind.name.lower()] == pytest.approx(
            float((tight.seen[0] - job.latent)[here].abs().mean()), rel=1e-3
        )
    assert torch.equal(free.seen[0][:, :, kinds == 0], tight.seen[0][:, :, kinds == 0])


def test_what_does_not_generate_changes_nothing(renderer: Renderer, job: RenderJob) -> None:
    canvas = render_worker.into_grey(job)
    plain = renderer.render_many([dataclasses.replace(job, canvas=canvas)], ONE, generate=False)[0]
    assert plain.changed == {}
    assert not (plain.provenance == Provenance.GENERATED).any()
    inside = pixels(canvas.active, plain.image)
    whole = renderer.render_many([job], ONE, generate=False)[0]
    assert psnr(plain.image[inside], whole.image[inside]) >= 40


def test_what_does_not_fit_is_named(renderer: Renderer, job: RenderJob) -> None:
    small = Canvas(np.zeros((64, 64, 3), np.uint8), np.zeros((4, 4), np.uint8), np.ones((4, 4), bool))
    with pytest.raises(InputError, match="canvas"):
        renderer.render_many([dataclasses.replace(job, canvas=small)], ONE)
    with pytest.raises(InputError, match="camera street"):
        renderer.render_many([dataclasses.replace(job, width=400)], ONE)
    with pytest.raises(InputError, match="reach"):
        dataclasses.replace(renderer, windows=dataclasses.replace(renderer.windows, reach=0))


def test_two_processes_give_the_same_bytes_and_other_threads_nearly_the_same(
    renderer: Renderer, tmp_path: Path
) -> None:
    before = torch.get_num_threads()
    try:
        own = render_worker.rendered(renderer, 1)
    finally:
        torch.set_num_threads(before)
    file = tmp_path / "two.npy"
    command = [sys.executable, render_worker.__file__, str(file)]
    other = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    assert other == hashlib.sha256(own.tobytes()).hexdigest()
    assert psnr(np.load(file), own) >= 60
