"""From what is to be to what is: the next steps of a supervisor, as a pure function over frozen values.

The supervisor gathers both, asks `reconcile`, and carries the steps out; a moment later it does so again. Nothing is
remembered in between but what the stages themselves are, so a step that failed is simply asked for again. Tasks need
none of this: every stage follows their records by itself (`actors.registry.TaskTable`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from actors.decisions import StagePlan, plan_stages
from actors.encode import EncodeSettings
from actors.encoding import encode_settings
from discover_stream.config import CameraConfig, Config
from discover_stream.config_edge import Role

Phase = Literal["running", "waiting", "resting", "stopping", "stopped"]
"""`waiting`: it ended by an error and begins again at a time; `resting`: it has ended or was given up, and its process
only answers; `stopping`: asked to finish what it has in hand; `stopped`: it did, or there is nothing to be finished."""


@dataclass(frozen=True, slots=True)
class Desired:
    """What is to be: the stages, each camera's configuration, how encoders code, and how many processes ground."""

    plans: tuple[StagePlan, ...]
    cameras: Mapping[str, CameraConfig] = field(default_factory=dict)
    encoding: EncodeSettings | None = None
    ground: int = 0


@dataclass(frozen=True, slots=True)
class Actual:
    """A stage as it is: `camera` is what its ingest was made with, `encoding` what its encoder was told last,
    `again_s` when it begins again, by the clock that `reconcile` is given."""

    plan: StagePlan
    phase: Phase
    camera: CameraConfig | None = None
    encoding: EncodeSettings | None = None
    again_s: float | None = None


@dataclass(frozen=True, slots=True)
class Configure:
    """Tell an encoder how cameras are coded now."""

    plan: StagePlan


@dataclass(frozen=True, slots=True)
class Create:
    """Make a process for a stage, and begin."""

    plan: StagePlan


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin again in the process of a stage."""

    plan: StagePlan


@dataclass(frozen=True, slots=True)
class Stop:
    """Let a stage finish its transaction."""

    plan: StagePlan


@dataclass(frozen=True, slots=True)
class Remove:
    """End the process of a stage that has stopped."""

    plan: StagePlan


Step = Configure | Create | Begin | Stop | Remove


def desired(config: Config, cameras: Sequence[CameraConfig], backlog: Collection[int], role: Role = "all") -> Desired:
    """What is to be for these cameras; `backlog` are partitions in use besides theirs. A core reads no cameras."""
    if role == "core":
        return Desired(plan_stages((), config.log.partitions, (), role))
    plans = plan_stages([camera.name for camera in cameras], config.log.partitions, backlog, role)
    by_name = {camera.name: camera for camera in cameras}
    return Desired(plans, by_name, encode_settings(config, cameras), config.pools.ground)


def reconcile(wanted: Desired, found: Sequence[Actual], now_s: float) -> tuple[Step, ...]:
    """The steps that bring what is closer to what is to be, in the order in which they are to be done.

    Encoders learn of a camera before its ingest begins. A camera that is wanted no more, or otherwise, is stopped,
    then removed, and only then made anew: two ingests of one camera never work side by side.
    """
    plans = set(wanted.plans)
    there = {item.plan for item in found}
    steps: list[Step] = [
        Configure(item.plan)
        for item in found
        if item.plan.kind == "encode" and item.phase != "stopped" and item.encoding != wanted.encoding
    ]
    for item in found:
        camera = wanted.cameras.get(item.plan.camera or "")
        unwanted = item.plan not in plans or (item.plan.kind == "ingest" and item.camera != camera)
        if unwanted and item.phase in ("waiting", "resting", "stopped"):
            steps.append(Remove(item.plan))
        elif unwanted and item.phase == "running":
            steps.append(Stop(item.plan))
        elif not unwanted and item.phase == "waiting" and item.again_s is not None and now_s >= item.again_s:
            steps.append(Begin(item.plan))
        elif not unwanted and item.phase == "stopped":  # wanted again before it was removed
            steps.append(Remove(item.plan))
    steps += [Create(plan) for plan in wanted.plans if plan not in there]
    return tuple(steps)
