from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from discover_stream.training.grounder import TrainOptions, TrainState, train
from discover_stream.training.grounder_data import AugmentOptions
from discover_stream.training.loop import Status
from discover_stream.training.pseudo_labels import Sample
from discover_stream.types import InputError


def sources() -> Mapping[str, Sequence[Sample]]:
    random = np.random.default_rng(0)
    made = []
    for _ in range(4):
        image = random.integers(0, 255, (96, 128, 3), dtype=np.uint8)
        boxes = np.array([[20, 10, 80, 70]], np.float32)
        made.append(Sample(image, boxes, np.array([2]), np.zeros(1, bool)))
    return {"a": made}


class Stopped(Exception):
    """The run was stopped."""


def test_a_grounder_stopped_on_its_way_ends_as_one_that_never_stopped(tmp_path: Path) -> None:
    options = TrainOptions(steps=5, batch=2, checkpoint_seconds=0, record_every=1, bf16=False)
    small = AugmentOptions(side=64, long_side=64)

    def stop(status: Status) -> None:
        if status.step == 3:
            raise Stopped

    state = TrainState(options)
    train(sources(), state, options, tmp_path / "a", small)
    with pytest.raises(Stopped):
        train(sources(), TrainState(options), options, tmp_path / "b", small, stop)
    resumed = TrainState(options)
    resumed.load(tmp_path / "b" / "checkpoint.pt")
    assert resumed.steps == 2
    train(sources(), resumed, options, tmp_path / "b", small)
    ends = [load_file(tmp_path / folder / "grounder.safetensors") for folder in "ab"]
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
    assert (tmp_path / "a" / "curve.csv").read_text().count("loss=") == 5
    assert list((tmp_path / "a" / "tensorboard").glob("events.*"))


def test_a_budget_is_of_minutes_or_of_steps() -> None:
    assert TrainOptions(minutes=2).progress(10**6, 30) == pytest.approx(0.25)
    assert TrainOptions(minutes=2).left(5, 30) == "1.5 min left"
    assert TrainOptions(steps=200).progress(50, 10**6) == pytest.approx(0.25)
    assert TrainOptions(steps=200).left(50, 60) == "50/200 steps, about 3.0 min left"


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"network": {}}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="not a checkpoint of the grounder"):
        TrainState(TrainOptions()).load(tmp_path / "checkpoint.pt")
