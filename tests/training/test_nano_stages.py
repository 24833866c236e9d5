"""The stages of the small models one after the other, each from what the one before wrote."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_training import NANO, configuration, job_of, joint_section, write_pictures

from discover_stream.codec.model import load_codec
from discover_stream.generation.diffusion import build_prior
from discover_stream.generation.render import load_vae
from discover_stream.generation.text import TagEmbedding
from discover_stream.generation.vae import VaeShape, build_vae, latent_space
from discover_stream.generation.weights import load_nano, write_prior
from discover_stream.training.config_models import NanoModels
from discover_stream.training.data import CropSampler
from discover_stream.training.loop import write_half
from discover_stream.training.pairs import KEY, REFRESH, STILL, PairBank, Scene, Sources, median_plate
from discover_stream.training.sources import BankSource
from discover_stream.training.stage import prepare, run_stage
from discover_stream.types import InputError
from discover_stream.video.simulate import SimulatedCamera


def test_each_stage_goes_on_from_the_one_before(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures")
    models = configuration(NANO).models
    assert isinstance(models, NanoModels)
    torch.manual_seed(0)
    vae = tmp_path / "vae.safetensors"
    write_half(build_vae(models.vae.shape), vae, models.vae.shape.metadata())
    shape = models.prior.shape
    write_prior(tmp_path / "prior.safetensors", build_prior(shape), TagEmbedding(shape.text_width), shape)
    given = {"vae": str(vae), "prior": str(tmp_path)}
    terms = {"picture": 190, "features": 1, "diffusion": 2, "semantic": 2}
    finished = given | {"steps": 1, "pictures": "folder", "crop": 64, "batch": 3, "codec": str(tmp_path / "two")}
    config = configuration(
        NANO,
        codec=joint_section(
            tmp_path / "one",
            **given,
            **{"weights": terms, "masks": "ours", "rate_over": "sent", "steps": 1},
            **{"train_decoder": True, "picture_every": 1},
        ),
        task=joint_section(
            tmp_path / "two", **given, weights=terms, freeze_encoder=True, start=str(tmp_path / "one"), steps=1
        ),
        control=finished | {"out": str(tmp_path / "control")},
        distill=finished | {"out": str(tmp_path / "distill"), "start": str(tmp_path / "control"), "teacher_steps": 2},
    )
    for name in ("codec", "task", "control", "distill"):
        assert all(path.exists() for path in run_stage(prepare(config, name, pictures, cpu=True))), name
    assert load_codec(tmp_path / "two" / "codec.safetensors").latent_space == latent_space(load_vae(vae))
    controls = [load_file(tmp_path / name / "control.safetensors") for name in ("one", "two", "control", "distill")]
    key = "control.controlnet_mid_block.weight"
    assert all(not torch.equal(one[key], two[key]) for one, two in pairwise(controls))
    # The prior that came is the one that sampling uses, with the last control module beside it.
    (tmp_path / "control.safetensors").write_bytes((tmp_path / "distill" / "control.safetensors").read_bytes())
    assert torch.equal(
        load_nano(tmp_path).control.state_dict()["controlnet_mid_block.weight"], controls[-1][key].float()
    )
    before = load_vae(vae)
    for name in ("one", "control"):
        trained = load_vae(tmp_path / name / "vae.safetensors")
        assert latent_space(trained) == latent_space(before)
        assert any(
            not torch.equal(one, two)
            for one, two in zip(trained.decoder.parameters(), before.decoder.parameters(), strict=True)
        )
    nothing = configuration(NANO, distill=finished | {"out": str(tmp_path / "x"), "start": str(tmp_path / "x")})
    with pytest.raises(InputError, match="no control module here"):
        run_stage(prepare(nothing, "distill", pictures, cpu=True))


def test_a_bank_keeps_the_masks_of_what_moves_and_names_what_is_there() -> None:
    torch.manual_seed(0)
    camera = SimulatedCamera("bank", seed=1004, fps=5, width=352, height=224)
    frames = tuple(camera.render(index)[0].image for index in range(20))
    crops = CropSampler(list(frames), [1.0] * len(frames), crop=192, seed=0)
    bank = PairBank(Sources((Scene(frames, median_plate(frames)),), crops), build_vae(VaeShape(8)), 10, seed=0)
    assert {KEY, REFRESH} & set(bank.kinds.tolist())
    before = bank.masks.clone()
    job = job_of(configuration(NANO), "codec", Path())
    source = BankSource(bank, "whole", np.random.default_rng(0), job.compute, look=True)
    for kind, old, new in zip(bank.kinds.tolist(), before, bank.masks, strict=True):
        assert bool(new.all()) if kind == STILL else torch.equal(old, new)
    batch = source.draw(job.random, 64, 5)
    assert batch.pictures.shape == (5, 3, 64, 64)
    assert len(batch.texts) == 5
    assert set(batch.texts) <= set(bank.texts)
    assert "car" in ", ".join(bank.texts)
