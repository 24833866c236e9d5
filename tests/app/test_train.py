from pathlib import Path

import pytest
import yaml
from tiny_training import RATES, STABLE, write_pictures

from discover_stream.app.cli import run
from discover_stream.app.train import overrides_of

CODEC = {"out": "unused", "minutes": 5, "record_every": 1, "rate_weights": RATES, "pictures": "folder"}
CONFIG = {
    "models": STABLE,
    "threads": 1,
    "precision": "fp32",
    "stages": {"codec": CODEC | {"sizes": [[64, 1]]}},
}


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """A stage on a folder of pictures, as the command line takes it."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(CONFIG))
    folders = ["--data", str(write_pictures(tmp_path / "pictures")), "--out", str(tmp_path / "out")]
    return ["train", "codec", "--config", str(tmp_path / "tiny.yaml"), *folders, "--cpu"]


def test_a_stage_is_trained_and_goes_on_where_it_stopped(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*arguments, "--steps", "1"]) == 0
    said = capsys.readouterr()
    written = [Path(line) for line in said.out.splitlines()]
    assert [path.parent for path in written] == [tmp_path / "out"] * 3
    assert all(path.exists() for path in written)
    assert "1/1 steps, about 0.0 min left" in said.err
    assert "bpp64=" in said.err
    assert run([*arguments, "--steps", "2"]) == 0
    err = capsys.readouterr().err
    assert "resumed at step 1" in err
    assert "2/2 steps" in err
    assert "1/2 steps" not in err


def test_ctrl_c_says_where_the_checkpoint_is(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("discover_stream.training.loop.Run.update", interrupted)
    assert run(arguments) == 130
    assert "the same command goes on from it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--minutes", "1", "--steps", "1"], "give one of the two"),
        (["--set", "batches=1"], "unknown key 'stages.codec.batches'"),
        (["--set", "steps=0"], "stages.codec.steps"),
        (["--set", "models.folder=/nowhere"], "cannot be loaded"),
        (["--data", "/nowhere"], "no such folder"),
        (["--config", "/nowhere"], "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str], more: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*arguments, *more]) == 2
    err = capsys.readouterr().err
    assert complaint in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("stage", ["vae", "nothing"])
def test_a_stage_that_is_not_in_the_recipe_is_refused(
    arguments: list[str], stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments[1] = stage
    assert run(arguments) == 2
    assert "not in the recipe of size sd21; it has codec" in capsys.readouterr().err


def test_short_keys_are_the_stages_own() -> None:
    given = overrides_of("task", ["weights.semantic=0", "models.folder=x", "threads=1"], 2.5, None)
    assert given == ["stages.task.weights.semantic=0", "models.folder=x", "threads=1", "stages.task.minutes=2.5"]
