from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from discover_stream.training.loop import LoopConfig, Run, rate_at, train


def config(out: Path, **changes: float) -> LoopConfig:
    return LoopConfig(out=out, minutes=changes.get("minutes", 1.0), learning_rate=0.1, warmup_steps=10)


def test_learning_rate_warms_up_holds_and_falls(tmp_path: Path) -> None:
    settings = config(tmp_path)
    assert rate_at(settings, 0, 0) == pytest.approx(0.01)
    assert rate_at(settings, 9, 0) == pytest.approx(0.1)
    assert rate_at(settings, 500, 35) == pytest.approx(0.1)
    assert rate_at(settings, 500, 48) == pytest.approx(0.05)
    assert rate_at(settings, 500, 60) == pytest.approx(0.002)


def test_a_checkpoint_continues_as_if_never_stopped(tmp_path: Path) -> None:
    def run_of(steps: int, break_at: int | None, out: Path) -> dict[str, Tensor]:
        torch.manual_seed(0)
        run = Run(nn.Linear(3, 1), config(out))
        out.mkdir(exist_ok=True)
        for step in range(steps):
            if step == break_at:
                run.save()
                torch.manual_seed(99)
                run = Run(nn.Linear(3, 1), config(out))
                run.resume()
            batch = torch.arange(12.0).view(4, 3) + step
            run.update((run.model(batch) - 1).pow(2).mean())
        return {**run.model.state_dict(), **{f"average.{k}": v for k, v in run.average.items()}}

    unbroken = run_of(20, None, tmp_path / "a")
    broken = run_of(20, 11, tmp_path / "b")
    for key, value in unbroken.items():
        assert torch.equal(value, broken[key]), key


def test_training_spends_its_time_and_writes_a_curve(tmp_path: Path) -> None:
    model = nn.Linear(2, 1)

    def step(_: int, __: float) -> tuple[Tensor, Mapping[str, float]]:
        loss = (model(torch.ones(1, 2)) - 3).pow(2).mean()
        return loss, {"loss": float(loss.detach())}

    settings = LoopConfig(out=tmp_path, minutes=0.02, learning_rate=0.05, record_every=10)
    trained = train(model, step, settings)
    assert float(trained(torch.ones(1, 2))) == pytest.approx(3, abs=0.2)
    assert (tmp_path / "curve.csv").read_text().startswith("10,")
    again = Run(nn.Linear(2, 1), settings)
    again.resume()
    assert again.used >= 0.02 * 60


def test_a_broken_gradient_stops_the_run(tmp_path: Path) -> None:
    run = Run(nn.Linear(1, 1), config(tmp_path))
    with pytest.raises(FloatingPointError, match="step 0"):
        run.update(run.model(torch.tensor([[float("inf")]])).sum())
