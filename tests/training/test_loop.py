import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from discover_stream.training.loop import CHECKPOINT, LoopConfig, Run, rate_at, train
from discover_stream.types import InputError

STAGE = """
import sys, time
from pathlib import Path
import numpy as np, torch
from torch import nn
from discover_stream.training.loop import LoopConfig, train

out, pause = Path(sys.argv[1]), float(sys.argv[2])
torch.manual_seed(0)
random = np.random.default_rng(0)
model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))

def step(number, progress):
    time.sleep(pause)
    batch = torch.from_numpy(random.standard_normal((4, 3)).astype("float32")) + 0.1 * torch.randn(4, 3)
    return (model(batch) - 1).pow(2).mean(), {}

train(model, step, LoopConfig(out=out, steps=60, learning_rate=0.05, save_seconds=0.0), generators=[random])
torch.save(model.state_dict(), out / "end.pt")
"""
"""A stage whose every source of numbers matters: numpy's, torch's, and dropout."""


def config(out: Path, minutes: float = 1.0) -> LoopConfig:
    return LoopConfig(out=out, minutes=minutes, learning_rate=0.1, warmup_steps=10)


def test_learning_rate_warms_up_holds_and_falls(tmp_path: Path) -> None:
    settings = config(tmp_path)
    assert rate_at(settings, 0, 0) == pytest.approx(0.01)
    assert rate_at(settings, 9, 0) == pytest.approx(0.1)
    assert rate_at(settings, 500, 0.59) == pytest.approx(0.1)
    assert rate_at(settings, 500, 0.8) == pytest.approx(0.05)
    assert rate_at(settings, 500, 1) == pytest.approx(0.002)


def test_a_budget_is_of_minutes_or_of_steps(tmp_path: Path) -> None:
    assert LoopConfig(out=tmp_path, minutes=2).progress(10**6, 30) == pytest.approx(0.25)
    assert LoopConfig(out=tmp_path, steps=200).progress(50, 10**6) == pytest.approx(0.25)
    assert "50/200 steps, about 3.0 min" in LoopConfig(out=tmp_path, steps=200).left(50, 60)
    for wrong in ({}, {"minutes": 1.0, "steps": 3}):
        with pytest.raises(InputError, match="one of the two"):
            LoopConfig(out=tmp_path, **wrong)  # type: ignore[arg-type]


def test_a_run_killed_on_its_way_ends_as_one_that_never_stopped(tmp_path: Path) -> None:
    def stage(out: Path, pause: float) -> subprocess.Popen[bytes]:
        out.mkdir(exist_ok=True)
        return subprocess.Popen([sys.executable, "-c", STAGE, str(out), str(pause)])

    unbroken, broken = stage(tmp_path / "a", 0.0), stage(tmp_path / "b", 0.05)
    checkpoint = tmp_path / "b" / CHECKPOINT
    while not checkpoint.exists():
        assert broken.poll() is None
        time.sleep(0.05)
    broken.kill()
    broken.wait()
    stopped_at = torch.load(checkpoint, weights_only=True)["step"]
    assert 0 < stopped_at < 60
    assert stage(tmp_path / "b", 0.0).wait() == 0
    assert unbroken.wait() == 0
    ends = [torch.load(tmp_path / name / "end.pt", weights_only=True) for name in "ab"]
    for key, value in ends[0].items():
        assert torch.equal(value, ends[1][key]), key


def test_training_spends_its_budget_and_writes_curves(tmp_path: Path) -> None:
    model = nn.Linear(2, 1)

    def step(_: int, __: float) -> tuple[Tensor, Mapping[str, float]]:
        loss = (model(torch.ones(1, 2)) - 3).pow(2).mean()
        return loss, {"loss": float(loss.detach())}

    settings = LoopConfig(out=tmp_path, minutes=0.02, learning_rate=0.05, record_every=10)
    trained = train(model, step, settings)
    assert float(trained(torch.ones(1, 2))) == pytest.approx(3, abs=0.2)
    assert (tmp_path / "curve.csv").read_text().startswith("10,")
    assert list((tmp_path / "tensorboard").glob("events.*"))
    again = Run(nn.Linear(2, 1), settings)
    again.resume()
    assert again.used >= 0.02 * 60
    assert again.progress == 1


def test_a_broken_gradient_stops_the_run(tmp_path: Path) -> None:
    run = Run(nn.Linear(1, 1), config(tmp_path))
    with pytest.raises(FloatingPointError, match="step 0"):
        run.update(run.model(torch.tensor([[float("inf")]])).sum())


def test_a_checkpoint_of_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    run = Run(nn.Linear(1, 1), config(tmp_path), generators=[np.random.default_rng(0)])
    run.save()
    with pytest.raises(InputError, match="not a checkpoint of this stage"):
        Run(nn.Linear(2, 1), config(tmp_path)).resume()
    (tmp_path / CHECKPOINT).write_bytes(b"damaged")
    with pytest.raises(InputError, match="not a checkpoint of this stage"):
        Run(nn.Linear(1, 1), config(tmp_path)).resume()
    assert (tmp_path / CHECKPOINT).read_bytes() == b"damaged"
