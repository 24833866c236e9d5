import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_diffusion import TINY, stable_folder

from discover_stream.generation.diffusion import build_control, build_prior, condition_of
from discover_stream.generation.sampling import SamplePlan, sample
from discover_stream.generation.text import TagEmbedding
from discover_stream.generation.weights import (
    CONTROL_FILE,
    PRIOR_FILE,
    load_nano,
    load_stable,
    write_control,
    write_prior,
)
from discover_stream.types import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    prior = build_prior(TINY)
    write_prior(tmp_path / PRIOR_FILE, prior, TagEmbedding(8), TINY)
    write_control(tmp_path / CONTROL_FILE, build_control(prior), TINY)
    return tmp_path


@torch.no_grad()
def test_what_is_written_is_what_is_loaded(folder: Path) -> None:
    torch.manual_seed(0)
    prior = build_prior(TINY).half().float()
    text = TagEmbedding(8).half().float()
    diffusion = load_nano(folder)
    noisy, condition = torch.randn(1, 4, 8, 8), condition_of(torch.randn(1, 4, 8, 8), torch.ones(1, 1, 8, 8))
    wanted = prior(noisy, torch.tensor(7), text.encode(["car"])).sample
    found = diffusion.predict(noisy, torch.tensor(7), diffusion.text.encode(["car"]), condition)
    assert torch.allclose(wanted, found, atol=1e-6)
    assert not any(p.requires_grad for p in (*diffusion.prior.parameters(), *diffusion.control.parameters()))


def test_a_prior_serves_before_its_control_module_is_trained(folder: Path) -> None:
    (folder / CONTROL_FILE).unlink()
    with pytest.raises(InputError, match=f"{CONTROL_FILE}: no weights here"):
        load_nano(folder)
    assert load_nano(folder, control=False).prior.config["in_channels"] == 4


def test_files_that_lack_weights_or_do_not_fit_are_refused(folder: Path) -> None:
    control = load_file(folder / CONTROL_FILE)
    shape = {"latent_channels": 4, "widths": [8, 16], "layers": 1, "text_width": 8, "heads": 2, "groups": 4}
    lacking = dict(list(control.items())[1:])
    save_file(lacking, folder / CONTROL_FILE, metadata={"diffusion": json.dumps(shape)})
    with pytest.raises(InputError, match="another structure"):
        load_nano(folder)
    save_file(control, folder / CONTROL_FILE, metadata={"diffusion": json.dumps(shape | {"widths": [8, 24]})})
    with pytest.raises(InputError, match="different sizes"):
        load_nano(folder)
    save_file(control, folder / CONTROL_FILE)
    with pytest.raises(InputError, match="not usable"):
        load_nano(folder)
    (folder / CONTROL_FILE).write_bytes(b"no weights")
    with pytest.raises(InputError, match="not usable"):
        load_nano(folder)


def test_stable_diffusion_loads_from_a_folder_and_samples(tmp_path: Path) -> None:
    diffusion = load_stable(stable_folder(tmp_path))
    received, sent, noise = torch.randn(1, 4, 8, 12), torch.ones(1, 1, 8, 12), torch.randn(1, 4, 8, 12)
    assert diffusion.schedule.config["prediction_type"] == "epsilon"
    plain = sample(diffusion, received, sent, noise, "", SamplePlan(2))
    guided = sample(diffusion, received, sent, noise, "car, bus", SamplePlan(2, guidance=4))
    assert plain.shape == received.shape
    assert torch.isfinite(plain).all()
    assert not torch.allclose(plain, guided)


def test_a_trained_control_module_is_found_beside_it(tmp_path: Path) -> None:
    folder = stable_folder(tmp_path)
    control = build_control(load_stable(folder).prior)
    with torch.no_grad():
        for block in control.controlnet_down_blocks:
            block.weight.add_(0.5)
    control.save_pretrained(folder / "controlnet")
    loaded = load_stable(folder, folder / "controlnet").control
    assert torch.equal(loaded.controlnet_down_blocks[0].weight, control.controlnet_down_blocks[0].weight)


def test_incomplete_stable_diffusion_is_refused_by_name(tmp_path: Path) -> None:
    folder = stable_folder(tmp_path)
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    save_file(dict(list(weights.items())[2:]), path, metadata={"format": "pt"})
    with pytest.raises(InputError, match="unet has missing"):
        load_stable(folder)
    with pytest.raises(InputError, match=r"nowhere.*unet cannot be loaded"):
        load_stable(tmp_path / "nowhere")
