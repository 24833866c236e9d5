from __future__ import annotations

from discover_stream.evaluation.datasets import load_item, street
from discover_stream.evaluation.speed import model_sizes, our_stages, peer_stages, timed
from discover_stream.evaluation.systems import SystemSpec


def test_every_stage_is_timed() -> None:
    (clip,) = load_item(street("sim://road?seed=3&width=160&height=96", 0.3, 10.0, "exact"), {}).clips
    stages = {(stage.system, stage.stage): stage.ms for stage in our_stages(clip, 4, 1)}
    for stage in ("ground", "encode: transforms", "encode: entropy, task", "decode: denoise, 1 step, picture"):
        assert stages["ours", stage] >= 0
    assert stages["ours", "ground"] > 0
    peers = peer_stages(clip, [SystemSpec.of("jpeg", quality=30)], 1)
    assert [(stage.system, stage.stage) for stage in peers] == [
        ("jpeg:quality=30", "encode"),
        ("jpeg:quality=30", "decode"),
    ]
    assert all(stage.ms > 0 for stage in peers)


def test_times_are_medians_without_the_first() -> None:
    calls = []
    timed(lambda: calls.append(1), 3)
    assert len(calls) == 4


def test_models_are_those_that_are_shipped() -> None:
    sizes = {model.name: model for model in model_sizes()}
    assert {"codec", "denoiser", "grounder", "vae"} <= set(sizes)
    for model in sizes.values():
        assert model.parameters < model.bytes <= 4 * model.parameters + 200_000
