"""Who may do what: a table, and one question about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from discover_stream.app.gateway.models import Role

Action = Literal[
    "see system",
    "see cameras",
    "see sources",
    "change cameras",
    "change privacy",
    "erase",
    "see tasks",
    "change tasks",
    "follow",
    "replay",
    "see originals",
    "leave marks off",
    "see audit",
]
"""What one may do. `follow` is a task's packets and rates, `leave marks off` pictures without the clock and the word
that they are reconstructed."""

_VIEWER: frozenset[Action] = frozenset(("see cameras", "replay", "see originals"))
_SUBSCRIBER: frozenset[Action] = frozenset(("see tasks", "follow", "replay"))
_OPERATOR: frozenset[Action] = _VIEWER | _SUBSCRIBER | {"see system", "see sources", "change cameras", "change tasks"}
_ADMIN: frozenset[Action] = _OPERATOR | {"change privacy", "erase", "leave marks off", "see audit"}

ALLOWED: Mapping[Role, frozenset[Action]] = {
    "admin": _ADMIN,
    "operator": _OPERATOR,
    "viewer": _VIEWER,
    "subscriber": _SUBSCRIBER,
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.

    Attributes:
        token: id of the token; `local` for everybody on a machine where no token was ever made.
        name: what the token was called.
        role: see `ALLOWED`.
        cameras: the cameras that a viewer may see; None for all.
        tasks: the tasks that a subscriber may see; None for all.
    """

    token: str
    name: str
    role: Role
    cameras: frozenset[str] | None = None
    tasks: frozenset[str] | None = None

    def may(self, action: Action, *, camera: str | None = None, task: str | None = None) -> bool:
        """Whether it may do this at all, and, where they are named, with this camera and this task."""
        if action not in ALLOWED[self.role]:
            return False
        if self.role == "viewer" and camera is not None:
            return self.cameras is None or camera in self.cameras
        if self.role == "subscriber" and task is not None:
            # `all` is everything a camera sent, which no subscription to tasks comes to.
            return task != "all" and (self.tasks is None or task in self.tasks)
        return True


LOCAL = Principal("local", "this machine", "admin")
"""Everybody who reaches a gateway that listens on loopback only, as long as no token was made."""
