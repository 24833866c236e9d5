from pathlib import Path

import pytest
from pydantic import BaseModel

from discover_stream.codec.transforms import TransformConfig, Transforms
from discover_stream.generation.diffusion import DiffusionShape
from discover_stream.generation.vae import WIDE
from discover_stream.training.config import PACKAGED, TrainingConfig, load_training
from discover_stream.training.config_models import NanoModels, StableModels
from discover_stream.training.stage import STAGES, prepare
from discover_stream.types import InputError


def sections(kind: type[BaseModel]) -> set[type[BaseModel]]:
    """A section and all sections below it."""
    found = {kind}
    for field in kind.model_fields.values():
        for part in [field.annotation, *getattr(field.annotation, "__args__", ())]:
            if isinstance(part, type) and issubclass(part, BaseModel) and part not in found:
                found |= sections(part)
    return found


def test_packaged_configurations_are_whole_and_name_known_stages() -> None:
    for name in PACKAGED:
        loaded = load_training(name)
        assert set(loaded.stages.names) <= set(STAGES)
    assert set(load_training("nano").stages.names) == set(STAGES)


def test_every_key_has_a_title_and_nothing_unknown_passes() -> None:
    for section in sections(TrainingConfig) | sections(NanoModels) | sections(StableModels):
        assert section.model_config["extra"] == "forbid", section
        assert all(field.title for name, field in section.model_fields.items() if name != "size"), section


def test_the_papers_recipe_is_the_papers() -> None:
    loaded = load_training("sd21")
    assert isinstance(loaded.models, StableModels)
    one, two, widths = loaded.stages.codec, loaded.stages.task, loaded.models.codec
    assert one is not None
    assert two is not None
    assert (one.steps, two.steps) == (300_000, 50_000)
    assert {1.0, 2.0, 4.0, 8.0} <= set(one.rate_weights)
    assert (one.weights.latent, one.weights.diffusion, one.weights.semantic) == (1, 2, 2)
    assert (one.tag_drop, one.full_noise_share, one.rate_over, one.unsent_weight) == (0.1, 0, "picture", 1)
    assert (one.crop, one.masks, one.freeze_encoder) == (512, "whole", False)
    assert (two.crop, two.masks, two.freeze_encoder, two.start) == (512, "paper", True, one.out)
    assert (widths.z_channels, widths.y_channels) == (192, 320)
    assert loaded.models.widths.unet == (320, 640, 1280, 1280)


def test_the_default_widths_are_those_of_the_library() -> None:
    models = load_training("nano").models
    assert isinstance(models, NanoModels)
    assert models.codec.shape(16) == TransformConfig()
    assert models.prior.shape == DiffusionShape()
    assert models.vae.shape == WIDE


def test_full_transforms_are_those_of_compressai() -> None:
    from compressai.models.sensetime import Elic2022Official

    widths = {"stem_channels": 16, "analysis_channels": 16, "wide_channels": 16, "y_channels": 24, "groups": (8, 16)}
    ours = Transforms(TransformConfig(**widths, elic=True)).g_a  # type: ignore[arg-type]
    theirs = Elic2022Official(N=16, M=24, groups=[8, 16]).g_a
    assert [tuple(p.shape) for p in ours.parameters()] == [tuple(p.shape) for p in theirs.parameters()]
    assert [type(layer) for layer in ours] == [type(layer) for layer in theirs]


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("stages.vae.batches=4", "unknown key 'stages.vae.batches'"),
        ("stages.vae.batch=0", "stages.vae.batch: .*greater than or equal to 1"),
        ("stages.vae.batch", "not KEY=VALUE"),
        ("stages.vae.batch=[", "not valid YAML"),
        ("threads.more=1", "'threads' holds no keys"),
        ("models.codec.y_channels=90", "must add up"),
        ("stages.codec.sizes=[[256, 4]]", "192 pixels a side at most"),
        ("stages.codec.kinds=[0, 0, 0]", "all zero"),
        ("stages.codec.rate_ramp=[0.6, 0.6]", "end after they start"),
        ("stages.vae={out: x, minutes: 1, steps: 1}", "give one of the two"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(override: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as raised:
        load_training("nano", [override])
    assert "\n" not in str(raised.value)


def test_a_budget_given_replaces_the_configured_one() -> None:
    assert load_training("nano", ["stages.vae.steps=7"]).stages.vae.minutes is None  # type: ignore[union-attr]
    stage = load_training("sd21", ["stages.codec.minutes=7"]).stages.codec
    assert stage is not None
    assert (stage.minutes, stage.steps) == (7, None)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_training(tmp_path / "none.yaml")
    for text, complaint in (("a: [", "not valid YAML"), ("- 1", "holds no keys"), ("threads: 1", "missing")):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(InputError, match=complaint):
            load_training(tmp_path / "bad.yaml")


def test_a_stage_outside_the_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not in the recipe of size sd21; it has codec, task"):
        prepare(load_training("sd21"), "vae", None)
    with pytest.raises(InputError, match="no such folder"):
        prepare(load_training("nano"), "vae", tmp_path / "none", out=tmp_path)


def test_a_decoder_cannot_learn_without_pictures() -> None:
    overrides = ["stages.codec.train_decoder=true", "stages.codec.weights={picture: 0, features: 0}"]
    with pytest.raises(InputError, match="learns from pictures"):
        load_training("nano", overrides)
