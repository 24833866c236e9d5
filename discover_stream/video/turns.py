"""Cars that turn round: traffic that shows every side of itself to the camera within seconds.

They come towards the camera in the outer lane on the left, turn in half a circle over the whole road, and go away in
the outer lane on the right. Nobody else is on the road; parked cars and the walkers on the pavements are those of the
ordinary traffic. As there, everything is a function of seed and time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from discover_stream.video.traffic import FAR_Z, ROAD_LEFT, Actor, Traffic

RADIUS = 5.7
"""Of the half circle, metres: from the middle of one outer lane to that of the other."""
TURN_Z = 24.0
"""Where the half circle begins and ends, metres along the road."""
SPEED, TURN_SPEED = 9.0, 5.0
"""Metres a second on the straight and in the curve."""
PERIOD = 6.5
"""Seconds between two of them: more than the curve takes, so they never meet in it."""
FIRST_TRACK = 1_000_000
_KINDS = (("car", 0.7), ("van", 0.2), ("truck", 0.1))


@dataclass(frozen=True)
class Turn:
    """One who turns: it enters at the far end at `start` seconds."""

    track: int
    kind: str
    look: int
    start: float

    @property
    def arrives(self) -> float:
        """When its half circle begins, seconds."""
        return self.start + (FAR_Z - TURN_Z) / SPEED

    @property
    def turned(self) -> float:
        """When its half circle ends, seconds."""
        return self.arrives + math.pi * RADIUS / TURN_SPEED

    @property
    def leaves(self) -> float:
        """When it is gone, seconds."""
        return self.turned + (FAR_Z - TURN_Z) / SPEED

    def at(self, time: float) -> Actor:
        """Where it is at a time between `start` and `leaves`."""
        if time < self.arrives:
            gone = (time - self.start) * SPEED
            return self._actor(-RADIUS, FAR_Z - gone, math.pi, gone)
        before = FAR_Z - TURN_Z
        if time < self.turned:
            gone = (time - self.arrives) * TURN_SPEED
            angle = gone / RADIUS
            return self._actor(
                -RADIUS * math.cos(angle), TURN_Z - RADIUS * math.sin(angle), math.pi - angle, before + gone
            )
        away = (time - self.turned) * SPEED
        return self._actor(RADIUS, TURN_Z + away, 0.0, before + math.pi * RADIUS + away)

    def _actor(self, x: float, z: float, heading: float, travelled: float) -> Actor:
        return Actor(self.track, self.kind, self.look, x, z, heading, travelled)


class Turns:
    """The traffic of the scene `turn`. The same seed gives the same traffic."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._ordinary = Traffic(seed)

    def at(self, time: float) -> tuple[Actor, ...]:
        """Everybody who is on the road or the pavements at `time` seconds, in no particular order."""
        beside = [actor for actor in self._ordinary.at(time) if self._beside(actor)]
        lasts = self._turn(0).leaves - self._turn(0).start + PERIOD
        turning = [self._turn(index) for index in range(math.floor((time - lasts) / PERIOD), int(time // PERIOD) + 1)]
        return (*beside, *(turn.at(time) for turn in turning if turn.start <= time <= turn.leaves))

    @staticmethod
    def _beside(actor: Actor) -> bool:
        stands = actor.travelled == 0.0
        return stands or (actor.kind == "person" and (actor.x < ROAD_LEFT or actor.x > -ROAD_LEFT))

    def _turn(self, index: int) -> Turn:
        rng = np.random.default_rng((self.seed, 12, index + 1_000_000))
        kind = str(rng.choice([name for name, _ in _KINDS], p=[weight for _, weight in _KINDS]))
        start = (index + float(rng.uniform(0.0, 0.25))) * PERIOD
        return Turn(FIRST_TRACK + index + 1000, kind, int(rng.integers(1 << 31)), start)
