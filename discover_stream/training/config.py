"""The configuration of training: one YAML file per size of the models, a section per stage.

As in `discover_stream.config`, every key has a title and bounds, and an unknown key is an error. Paths start at the
working directory. `nano` and `sd21` name the packaged files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from discover_stream.config_log import Section
from discover_stream.training.config_models import ModelsConfig
from discover_stream.training.config_stages import (
    AblationStage,
    ControlStage,
    DenoiserStage,
    DistillStage,
    GrounderStage,
    JointStage,
    PriorStage,
    VaeStage,
)
from discover_stream.types import InputError

PACKAGED = ("nano", "sd21")


class StagesConfig(Section):
    """What can be trained with these models; a stage that is not here is not part of the recipe."""

    vae: VaeStage | None = Field(default=None, title="Stage 0: the autoencoder of pictures")
    prior: PriorStage | None = Field(default=None, title="Stage 0: the diffusion prior and its tags")
    codec: JointStage | None = Field(default=None, title="Stage I: the codec, with Eq. 4's terms")
    task: JointStage | None = Field(default=None, title="Stage II: the codec under masks")
    control: ControlStage | None = Field(default=None, title="The control module on a finished codec")
    distill: DistillStage | None = Field(default=None, title="One step that does what many do")
    grounder: GrounderStage | None = Field(default=None, title="The detector that grounds")
    denoiser: DenoiserStage | None = Field(default=None, title="The decoder without a prior, as it ships")
    ablation: AblationStage | None = Field(default=None, title="Each variant of stage II for an equal budget")

    @property
    def names(self) -> tuple[str, ...]:
        """Of the stages that are there."""
        return tuple(name for name in type(self).model_fields if getattr(self, name) is not None)


class TrainingConfig(Section):
    """Everything that `discover train` needs to know."""

    models: ModelsConfig = Field(title="Which models, and their sizes")
    threads: int = Field(default=2, ge=1, le=512, title="CPU threads of a process")
    precision: Literal["fp32", "bf16", "fp16"] = Field(default="bf16", title="Of forward passes; weights are float32")
    stages: StagesConfig = Field(title="The recipe, stage by stage")


def packaged(name: str) -> Path:
    """The file of a packaged configuration."""
    return Path(str(resources.files("discover_stream") / "configs" / "training" / f"{name}.yaml"))


def load_training(source: str | Path, overrides: Sequence[str] = ()) -> TrainingConfig:
    """Read and check a configuration.

    Args:
        source: `nano`, `sd21`, or the path of a YAML file.
        overrides: `stages.vae.batch=4` each, the value in YAML.

    Raises:
        InputError: the file cannot be read, or a key or value is wrong.
    """
    path = packaged(str(source)) if str(source) in PACKAGED else Path(source)
    where = f"training configuration {source}"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"{where}: cannot be read ({reason}); give {', '.join(PACKAGED)} or a YAML file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark is not None else ""
        raise InputError(f"{where}: not valid YAML{line}; correct the file") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: holds a value that cannot be read ({error}); correct it") from None
    if not isinstance(content, dict):
        raise InputError(f"{where}: holds no keys; it needs 'models' and 'stages'")
    for override in overrides:
        _override(content, override)
    try:
        return TrainingConfig.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{where}: {_problem(error)}") from None


BUDGETS = ("minutes", "steps")


def _override(content: dict[str, Any], override: str) -> None:
    """Set a key, given as `a.b=value`; of the two ways to state a budget, the given one stays."""
    name, equals, text = override.partition("=")
    parts = name.strip().split(".")
    if not equals or not all(parts):
        raise InputError(f"override {override!r}: not KEY=VALUE; write for example stages.vae.batch=4")
    section: Any = content
    for part in parts[:-1]:
        section = section.setdefault(part, {}) if isinstance(section, dict) else None
        if not isinstance(section, dict):
            raise InputError(f"override {override!r}: {part!r} holds no keys; check the name")
    try:
        section[parts[-1]] = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"override {override!r}: the value is not valid YAML; quote it") from None
    if parts[-1] in BUDGETS and section[parts[-1]] is not None:
        section.pop(BUDGETS[1 - BUDGETS.index(parts[-1])], None)


def _problem(error: ValidationError) -> str:
    """One of pydantic's complaints, an unknown key first: it explains the others."""
    problems: Sequence[Mapping[str, Any]] = error.errors()
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key {place!r}; see docs/training.md for those there are"
    if first["type"] == "missing":
        return f"the key {place!r} is missing; add it"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    given = "" if isinstance(first["input"], (dict, list)) else f" (it is {first['input']!r})"
    return f"{place}: {message}{given}" + ("" if ";" in message else "; correct it")
