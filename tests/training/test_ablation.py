import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import STABLE, configuration, joint_section, write_pictures

from discover_stream.evaluation.boxes import Detection
from discover_stream.training import ablation
from discover_stream.training.ablation import VARIANTS, Street, cells_of, tags_of, variant_stage
from discover_stream.training.config import load_training
from discover_stream.training.stage import prepare, run_stage
from discover_stream.types import Box, InputError


def test_each_variant_changes_one_thing() -> None:
    stages = load_training("nano").stages
    assert stages.task is not None
    assert stages.ablation is not None
    base, *others = (variant_stage(stages.task, variant, stages.ablation) for variant in VARIANTS)
    assert (base.steps, base.minutes, base.masks) == (2000, None, "ours")
    assert base.weights == stages.task.weights
    kept = base.model_dump()
    changes = [{key for key, value in other.model_dump().items() if value != kept[key]} for other in others]
    assert changes == [{"masks", "references"}, {"weights"}, {"weights"}, {"tags"}, {"masks", "references"}]
    assert others[1].weights.diffusion == 0
    assert others[1].weights.semantic == base.weights.semantic > 0
    assert others[2].weights.semantic == 0


def test_a_task_sends_the_cells_under_its_boxes() -> None:
    truth = (Detection("car", 1.0, Box(17, 0, 33, 16)), Detection("bus", 1.0, Box(48, 48, 64, 64)))
    street = Street(np.zeros((64, 64, 3), np.uint8), truth)
    wanted = np.zeros((4, 4), bool)
    wanted[0, 1:3] = wanted[3, 3] = True
    np.testing.assert_array_equal(cells_of(street), wanted)
    assert tags_of(street) == "car, bus"
    assert cells_of(Street(street.image, ())).sum() == 1


def test_variants_are_trained_measured_and_put_into_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation, "WIDTH", 192)
    monkeypatch.setattr(ablation, "HEIGHT", 128)
    stages = {
        "task": joint_section(tmp_path / "task", freeze_encoder=False),
        "ablation": {"out": str(tmp_path / "out"), "steps": 1, "streets": 1, "each": 1, "sample_steps": 1},
    }
    job = prepare(configuration(STABLE, **stages), "ablation", write_pictures(tmp_path / "pictures"), cpu=True)
    page, data = run_stage(job)
    figures = json.loads(data.read_text())
    assert [one["variant"] for one in figures] == [variant.name for variant in VARIANTS]
    assert page.read_text().count("\n| ") == len(VARIANTS) + 1
    rates = {one["variant"]: one["bpp"] for one in figures}
    assert rates["without disentanglement"] > 1.5 * rates["ours"]
    assert all(0 <= one["ap50"] <= 1 and one["distance"] > 0 for one in figures)
    assert len({one["distance"] for one in figures}) > 1
    steps = {torch.load(path, weights_only=True)["step"] for path in tmp_path.glob("out/*/checkpoint.pt")}
    assert steps == {1}
    assert len(list(tmp_path.glob("out/*/checkpoint.pt"))) == len(VARIANTS)


def test_there_is_nothing_to_vary_without_the_terms_of_the_prior(tmp_path: Path) -> None:
    task = joint_section(tmp_path / "task", weights={"diffusion": 0, "semantic": 2})
    config = configuration(STABLE, task=task, ablation={"out": str(tmp_path), "steps": 1})
    with pytest.raises(InputError, match="both terms of the prior"):
        run_stage(prepare(config, "ablation", tmp_path, cpu=True))
