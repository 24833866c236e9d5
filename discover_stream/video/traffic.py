"""Who is where when: the simulated traffic as pure functions of time.

Every lane is a stream of travellers that enter at fixed intervals plus a seeded jitter and move at
the lane's speed, so the state at any time needs no history. Cars in the inner lanes overtake those
in the outer ones. One bay at the kerb is used by cars that come, park and leave; travellers who
would run into them are left out. Walkers cross the road when it is clear.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from discover_stream.video.geometry import Floats

ROAD_LEFT, ROAD_RIGHT, BAY_RIGHT = -8.2, 8.2, 10.4
"""Edges of the carriageway and of the parking bay behind it, metres."""
CROSSWALK_Z = 19.0
PARKING_Z = 30.0
PARKING_X = 9.3
FAR_Z, NEAR_Z = 170.0, -14.0

LENGTHS = {
    "car": 4.6,
    "van": 5.4,
    "truck": 7.6,
    "bus": 11.0,
    "motorcycle": 2.1,
    "bicycle": 1.75,
    "person": 0.5,
}


@dataclass(frozen=True)
class Stream:
    """Travellers of one lane: side position x, direction along z (+1 away), metres per second, seconds
    between entries, share of entries left empty, kinds with weights, and their spread across the lane.
    """

    x: float
    direction: int
    speed: float
    interval: float
    empty: float
    kinds: tuple[tuple[str, float], ...]
    spread: float = 0.15
    z: tuple[float, float] = (NEAR_Z, FAR_Z)


@dataclass(frozen=True)
class Actor:
    """An object at one moment: what it is, where it stands (metres) and where it heads (radians).

    `look` seeds its appearance; `travelled` is the way it has gone, in metres, for wheels and legs.
    """

    track: int
    kind: str
    look: int
    x: float
    z: float
    heading: float
    travelled: float


@dataclass(frozen=True)
class Traveller:
    """One member of a stream: enters at `start` seconds and keeps to side position `x`."""

    track: int
    kind: str
    look: int
    stream: Stream
    x: float
    start: float
    sway: tuple[float, float, float]

    @property
    def leaves(self) -> float:
        """When it has passed the end of its lane, in seconds."""
        return self.start + (self.stream.z[1] - self.stream.z[0]) / self.stream.speed

    def z_at(self, times: Floats) -> Floats:
        """Position along the road at times (N,) in seconds, (N,) metres."""
        size, rate, shift = self.sway
        way = self.stream.speed * (times - self.start) + size * np.sin(rate * times + shift)
        away = self.stream.direction > 0
        position: Floats = self.stream.z[0] + way if away else self.stream.z[1] - way
        return position


_MAIN = (("car", 0.66), ("van", 0.12), ("truck", 0.1), ("bus", 0.06), ("motorcycle", 0.06))
_FAST = (("car", 0.78), ("van", 0.12), ("motorcycle", 0.1))
_FEET = (("person", 1.0),)
_PEDALS = (("bicycle", 1.0),)
_WALK = (4.0, 90.0)

STREAMS: tuple[Stream, ...] = (
    Stream(2.3, 1, 12.5, 4.6, 0.25, _FAST),
    Stream(5.7, 1, 8.0, 4.8, 0.2, _MAIN),
    Stream(-2.3, -1, 13.0, 4.4, 0.25, _FAST),
    Stream(-5.7, -1, 9.0, 4.6, 0.15, _MAIN),
    Stream(7.75, 1, 4.6, 19.0, 0.3, _PEDALS),
    Stream(-7.75, -1, 5.0, 17.0, 0.3, _PEDALS),
    Stream(-9.6, 1, 1.35, 14.0, 0.2, _FEET, 0.5, _WALK),
    Stream(-10.9, -1, 1.25, 13.0, 0.2, _FEET, 0.5, _WALK),
    Stream(11.6, 1, 1.4, 13.0, 0.2, _FEET, 0.4, _WALK),
    Stream(12.7, -1, 1.3, 14.0, 0.2, _FEET, 0.4, _WALK),
)
_PARKED = ((-1, 7.0), (0, 14.5), (1, 44.0), (2, 52.5))
PARK_PERIOD, PARK_FIRST = 45.0, -3.2
CROSS_PERIOD = 19.0
_CROSSING_LANES = range(6)
_FAMILIES = len(STREAMS) + 2


class Traffic:
    """The traffic of one scene. The same seed gives the same traffic."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._traveller = lru_cache(maxsize=4096)(self._make_traveller)
        self._crossing = lru_cache(maxsize=64)(self._make_crossing)
        self._visit = lru_cache(maxsize=64)(self._make_visit)

    def at(self, time: float) -> tuple[Actor, ...]:
        """Everybody who is on the road or the pavements at `time` seconds, in no particular order."""
        actors = list(self._standing())
        actors.extend(self._travelling(time))
        for event in range(_event(time - 60.0, PARK_PERIOD), _event(time, PARK_PERIOD) + 2):
            actors.extend(self._parking(event, time))
        for event in range(_event(time - 80.0, CROSS_PERIOD), _event(time, CROSS_PERIOD) + 1):
            actors.extend(self._crossing_actor(event, time))
        return tuple(actors)

    def _rng(self, family: int, index: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, family, index + 1_000_000))

    def _track(self, family: int, index: int) -> int:
        # Members that are already under way at time 0 have negative indices.
        return 1 + len(_PARKED) + (index + 100) * _FAMILIES + family

    def _standing(self) -> tuple[Actor, ...]:
        """Cars that stay in the bay for good."""
        rng = self._rng(_FAMILIES, 0)
        actors = []
        for slot, (_, z) in enumerate(_PARKED):
            kind = "van" if rng.random() < 0.25 else "car"
            x = PARKING_X + float(rng.uniform(-0.12, 0.12))
            actors.append(Actor(slot + 1, kind, int(rng.integers(1 << 31)), x, z, 0.0, 0.0))
        return tuple(actors)

    def _members(self, family: int, start: float, stop: float) -> list[Traveller]:
        """Members of a stream that are under way at some moment of start..stop seconds."""
        stream = STREAMS[family]
        duration = (stream.z[1] - stream.z[0]) / stream.speed
        first = math.floor((start - duration) / stream.interval) - 1
        last = math.floor(stop / stream.interval) + 1
        found = []
        for index in range(first, last + 1):
            member = self._traveller(family, index)
            if member is not None and member.start <= stop and member.leaves >= start:
                found.append(member)
        return found

    def _travelling(self, time: float) -> list[Actor]:
        actors = []
        for family, stream in enumerate(STREAMS):
            heading = 0.0 if stream.direction > 0 else math.pi
            for member in self._members(family, time, time):
                z = float(member.z_at(np.array([time]))[0])
                travelled = stream.speed * (time - member.start)
                actors.append(Actor(member.track, member.kind, member.look, member.x, z, heading, travelled))
        return actors

    def _make_traveller(self, family: int, index: int) -> Traveller | None:
        stream = STREAMS[family]
        rng = self._rng(family, index)
        present = rng.random() >= stream.empty
        names = [name for name, _ in stream.kinds]
        kind = str(rng.choice(names, p=[weight for _, weight in stream.kinds]))
        start = (index + float(rng.uniform(0.0, 0.4))) * stream.interval
        x = stream.x + float(rng.uniform(-1, 1)) * stream.spread
        sway = (0.04 * stream.speed, float(rng.uniform(0.2, 0.5)), float(rng.uniform(0, 6.28)))
        look = int(rng.integers(1 << 31))
        traveller = Traveller(self._track(family, index), kind, look, stream, x, start, sway)
        if not present or (stream.direction > 0 and self._hits_parking(traveller)):
            return None
        return traveller

    def _hits_parking(self, traveller: Traveller) -> bool:
        """Whether the traveller would run into a car that is about to park or to leave."""
        if traveller.kind == "person":
            return False
        for event in range(_event(traveller.start - 60.0, PARK_PERIOD), _event(traveller.leaves, PARK_PERIOD) + 2):
            visit = self._visit(event)
            for begin, end in ((visit.start, visit.parked), (visit.leaves, visit.gone)):
                times = np.arange(max(begin, traveller.start), min(end, traveller.leaves), 0.1)
                if len(times) == 0:
                    continue
                x, z = visit.path(times)
                gap = (LENGTHS[visit.kind] + LENGTHS[traveller.kind]) / 2 + 3.0
                if np.any((np.abs(x - traveller.x) < 2.3) & (np.abs(z - traveller.z_at(times)) < gap)):
                    return True
        return False

    def _make_visit(self, event: int) -> Visit:
        rng = self._rng(_FAMILIES - 2, event)
        dwell = float(rng.uniform(6.5, 11.0))
        kind = "car" if rng.random() < 0.85 else "van"
        start = PARK_FIRST + event * PARK_PERIOD
        return Visit(kind, int(rng.integers(1 << 31)), start, dwell)

    def _parking(self, event: int, time: float) -> list[Actor]:
        visit = self._visit(event)
        if not visit.start <= time <= visit.gone:
            return []
        moments = np.array([time - 0.02, time, time + 0.02])
        x, z = visit.path(moments)
        ahead, aside = float(z[2] - z[0]), float(x[2] - x[0])
        heading = math.atan2(aside, ahead) if ahead > 1e-4 else 0.0
        track = self._track(_FAMILIES - 2, event)
        return [Actor(track, visit.kind, visit.look, float(x[1]), float(z[1]), heading, float(z[1]))]

    def _make_crossing(self, event: int) -> Crossing | None:
        """A walker's way over the road, waiting at the kerb and on the middle line for a gap."""
        rng = self._rng(_FAMILIES - 1, event)
        rightwards = bool(rng.random() < 0.5)
        z = CROSSWALK_Z + float(rng.uniform(-1.1, 1.1))
        pace = float(rng.uniform(1.5, 1.9))
        look = int(rng.integers(1 << 31))
        begin = event * CROSS_PERIOD + float(rng.uniform(0, 4))
        times = begin + np.arange(0, 60.0, 0.1)
        stops = [-9.2, 0.0, 11.2] if rightwards else [11.2, 0.0, -9.2]
        clock = 0
        departures = []
        for here, there in itertools.pairwise(stops):
            blocked = self._blocked(times, z, (here, there), pace)
            waiting = np.flatnonzero(~blocked[clock:])
            if len(waiting) == 0:
                return None
            clock += int(waiting[0])
            departures.append(float(times[clock]))
            clock += math.ceil(abs(there - here) / pace / 0.1)
            if clock >= len(times):
                return None
        return Crossing(look, z, pace, (stops[0], stops[1], stops[2]), begin, (departures[0], departures[1]))

    def _blocked(self, times: Floats, z: float, way: tuple[float, float], pace: float) -> Floats:
        """For each departure time (N,), whether somebody would be hit between the two side positions."""
        blocked = np.zeros(len(times), dtype=bool)
        low, high = min(way), max(way)
        for family in _CROSSING_LANES:
            lane = STREAMS[family].x
            if not low <= lane <= high:
                continue
            taken = np.zeros(len(times), dtype=bool)
            for member in self._members(family, float(times[0]), float(times[-1])):
                taken |= np.abs(member.z_at(times) - z) < LENGTHS[member.kind] / 2 + 1.3
            enter = max(0, int((abs(lane - way[0]) - 1.7) / pace / 0.1))
            leave = int((abs(lane - way[0]) + 1.7) / pace / 0.1) + 1
            padded = np.concatenate([taken, np.ones(leave, dtype=bool)])
            counts = np.concatenate([[0], np.cumsum(padded)])
            steps = np.arange(len(times))
            blocked |= counts[steps + leave] - counts[steps + enter] > 0
        if high > STREAMS[1].x:
            blocked |= self._visitor_near(times, z, (high - low) / pace)
        return blocked

    def _visitor_near(self, times: Floats, z: float, duration: float) -> Floats:
        near = np.zeros(len(times), dtype=bool)
        for event in range(_event(float(times[0]) - 60.0, PARK_PERIOD), _event(float(times[-1]), PARK_PERIOD) + 2):
            visit = self._visit(event)
            moments = np.arange(visit.start, visit.parked, 0.1)
            close = moments[np.abs(visit.path(moments)[1] - z) < 5.0]
            if len(close):
                near |= (times < close[-1]) & (times + duration > close[0])
        return near

    def _crossing_actor(self, event: int, time: float) -> list[Actor]:
        crossing = self._crossing(event)
        if crossing is None or not crossing.begin <= time <= crossing.end:
            return []
        x, travelled = crossing.position(time)
        heading = math.copysign(math.pi / 2, crossing.stops[2] - crossing.stops[0])
        track = self._track(_FAMILIES - 1, event)
        return [Actor(track, "person", crossing.look, x, crossing.z, heading, travelled)]


@dataclass(frozen=True)
class Visit:
    """A car that comes along the outer lane, parks in the free bay for `dwell` seconds and drives on."""

    kind: str
    look: int
    start: float
    dwell: float

    SPEED = 8.0
    BRAKING = 4.0

    @property
    def parked(self) -> float:
        """When it stands still, seconds."""
        braking_way = self.SPEED * self.BRAKING / 2
        return self.start + (PARKING_Z - braking_way - NEAR_Z) / self.SPEED + self.BRAKING

    @property
    def leaves(self) -> float:
        """When it starts to move again, seconds."""
        return self.parked + self.dwell

    @property
    def gone(self) -> float:
        """When it has left the scene, seconds."""
        return self.leaves + self.BRAKING + (FAR_Z - PARKING_Z) / self.SPEED

    def path(self, times: Floats) -> tuple[Floats, Floats]:
        """Side position and position along the road at times (N,), (N,) and (N,) metres."""
        x_in, z_in = self._from_standstill(np.maximum(self.parked - times, 0.0))
        x_out, z_out = self._from_standstill(np.maximum(times - self.leaves, 0.0))
        arriving = times < self.parked
        x = np.where(arriving, x_in, x_out)
        z = PARKING_Z + np.where(arriving, -z_in, z_out)
        return x, z

    def _from_standstill(self, since: Floats) -> tuple[Floats, Floats]:
        """Side position and way gone after speeding up for `since` seconds; braking is the same backwards."""
        rate = self.SPEED / self.BRAKING
        way = np.where(
            since < self.BRAKING,
            rate * since**2 / 2,
            self.SPEED * since - self.SPEED * self.BRAKING / 2,
        )
        share = np.clip(since / (self.BRAKING * 0.95), 0.0, 1.0)
        ease = share**3 * (share * (share * 6 - 15) + 10)
        return PARKING_X + (STREAMS[1].x - PARKING_X) * ease, way


@dataclass(frozen=True)
class Crossing:
    """A walker who crosses at `z` from stops[0] over the middle stops[1] to stops[2]."""

    look: int
    z: float
    pace: float
    stops: tuple[float, float, float]
    begin: float
    departures: tuple[float, float]

    @property
    def end(self) -> float:
        """When the walker has arrived, seconds."""
        return self.departures[1] + abs(self.stops[2] - self.stops[1]) / self.pace

    def position(self, time: float) -> tuple[float, float]:
        """Side position in metres and way gone in metres at `time` seconds."""
        sign = math.copysign(1.0, self.stops[2] - self.stops[0])
        first = min(max(0.0, (time - self.departures[0]) * self.pace), abs(self.stops[1] - self.stops[0]))
        second = max(0.0, (time - self.departures[1]) * self.pace)
        return self.stops[0] + sign * (first + second), first + second


def _event(time: float, period: float) -> int:
    return math.floor(time / period)
