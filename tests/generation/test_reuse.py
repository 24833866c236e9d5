"""What of a camera's next picture is rendered anew, and what that gives."""

import dataclasses

import numpy as np
import pytest
import render_worker
import torch

from discover_stream.codec.model import shipped_weights
from discover_stream.generation.canvas import Canvas, Follow
from discover_stream.generation.render import Renderer, RenderJob
from discover_stream.generation.reuse import (
    LOOSE,
    TOLERANCE,
    Basis,
    Kept,
    KeptPictures,
    ReusePlanner,
    changed_cells,
    moved_basis,
    unchanged,
)
from discover_stream.generation.sampling import SamplePlan
from discover_stream.generation.sheets import Rendered
from discover_stream.types import Image, InputError, Provenance

ONE = SamplePlan(1)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    torch.set_num_threads(1)
    return Renderer.load(shipped_weights())


def psnr(one: Image, other: Image) -> float:
    error = np.square(one.astype(np.float64) - other).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def test_cells_change_where_latents_differ_by_more_than_their_tolerance() -> None:
    latent = torch.zeros(1, 4, 8, 12)
    received = np.full((4, 6), Provenance.MISSING, np.uint8)
    received[1] = Provenance.SENT
    basis = Basis(latent, received)
    now = latent.clone()
    now[0, 2, 2, 3] = TOLERANCE * 1.01  # cell (1, 1), which was sent
    now[0, 0, 3, 11] = TOLERANCE * 0.99  # cell (1, 5), which was sent
    now[0, 0, 5, 1] = TOLERANCE * 1.01  # cell (2, 0), which was not
    now[0, 3, 7, 4] = -LOOSE * 1.01  # cell (3, 2), which was not
    more = received.copy()
    more[0, 4] = Provenance.SENT
    changed = changed_cells(basis, now, more)
    assert {(int(i), int(j)) for i, j in np.argwhere(changed)} == {(1, 1), (3, 2), (0, 4)}
    moved = moved_basis(basis, now, more, changed)
    assert float(moved.latent[0, 2, 2, 3]) == pytest.approx(TOLERANCE * 1.01)
    assert float(moved.latent[0, 0, 5, 1]) == 0.0
    assert not changed_cells(moved, now, more).any()


def test_what_creeps_is_rendered_before_it_is_off_by_more_than_the_tolerance() -> None:
    received = np.full((2, 2), Provenance.SENT, np.uint8)
    basis, renders = Basis(torch.zeros(1, 4, 4, 4), received), 0
    for number in range(1, 101):
        latent = torch.full((1, 4, 4, 4), number * TOLERANCE / 7)
        active = changed_cells(basis, latent, received)
        renders += bool(active.any())
        basis = moved_basis(basis, latent, received, active)
        assert float((latent - basis.latent).abs().max()) <= TOLERANCE
    assert 10 <= renders <= 20


def rows_of(renderer: Renderer) -> list[RenderJob]:
    """A street in which a few cells change from picture to picture."""
    first = render_worker.street(renderer)
    jobs = [first]
    for number in range(3):
        latent = jobs[-1].latent.clone()
        latent[:, :, 6:10, 8 + 2 * number : 12 + 2 * number] += 0.6
        jobs.append(dataclasses.replace(first, latent=latent))
    return jobs


def rendered(renderer: Renderer, jobs: list[RenderJob], together: int) -> list[Rendered]:
    kept, found = KeptPictures(), list[Rendered]()
    for start in range(0, len(jobs), together):
        planner = ReusePlanner(kept)
        for job in jobs[start : start + together]:
            planner.add("row", job)
        assert any(job.job.canvas is not None for job in planner.jobs) or not start
        pictures = renderer.render_many([one.job for one in planner.jobs], ONE)
        kept.put("row", Kept(pictures[-1], planner.jobs[-1].basis))
        found += pictures
    return found


def test_reused_pictures_are_those_of_whole_decodes_however_many_come_in_a_call(renderer: Renderer) -> None:
    jobs = rows_of(renderer)
    whole = renderer.render_many(jobs, ONE)
    singly, together = rendered(renderer, jobs, 1), rendered(renderer, jobs, 4)
    for full, one, other in zip(whole, singly, together, strict=True):
        assert psnr(one.image, full.image) >= 40
        assert int(np.abs(one.image.astype(int) - other.image).max()) <= 1
        assert (one.provenance == full.provenance).all()
    assert psnr(whole[0].image, whole[3].image) < 40


def test_a_picture_without_changes_is_the_one_before(renderer: Renderer) -> None:
    job = render_worker.street(renderer)
    kept = KeptPictures()
    first = renderer.render_many([job], ONE)[0]
    kept.put("row", Kept(first, Basis(job.latent, job.provenance, job.plate)))
    planner = ReusePlanner(kept)
    planner.add("row", job)
    planner.add("other", job)
    planner.add("row", dataclasses.replace(job, plate=8))  # on another plate, everything is new
    again, other, anew = planner.jobs
    assert unchanged(again.job)
    assert other.job.canvas is None
    assert anew.job.canvas is None
    assert (renderer.render_many([again.job], ONE)[0].image == first.image).all()


def test_few_rows_are_kept_those_used_last() -> None:
    kept, none = KeptPictures(2), np.zeros((1, 1), np.uint8)
    picture = Kept(Rendered(np.zeros((16, 16, 3), np.uint8), none), Basis(torch.zeros(1, 4, 2, 2), none))
    for row in ("a", "b", "a", "c"):
        kept.put(row, picture)
    assert (len(kept), kept.get("a"), kept.get("b")) == (2, picture, None)


def test_a_picture_follows_an_earlier_one_of_the_same_size(renderer: Renderer) -> None:
    job = render_worker.street(renderer)
    active = np.zeros(job.provenance.shape, bool)
    with pytest.raises(InputError, match="none of the 0 before"):
        renderer.render_many([dataclasses.replace(job, canvas=Follow(0, active))], ONE)
    small = dataclasses.replace(job, canvas=Canvas(np.zeros((16, 16, 3), np.uint8), active[:1, :1], active[:1, :1]))
    with pytest.raises(InputError, match="canvas"):
        renderer.render_many([small], ONE)
