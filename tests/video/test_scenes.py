"""The simulated scenes beside the ordinary street: each shows what it is for."""

from __future__ import annotations

import numpy as np
import pytest

from discover_stream.types import InputError
from discover_stream.video.portal import PORTAL_Z, SEEN, daylight
from discover_stream.video.simulate import SCENES, SimulatedCamera
from discover_stream.video.source import simulated_camera
from discover_stream.video.turns import PERIOD, RADIUS, Turns

SIZE = {"width": 320, "height": 176}


@pytest.mark.parametrize("scene", SCENES)
def test_a_frame_depends_on_its_number_alone(scene):
    one = SimulatedCamera("c", scene=scene, seed=4, **SIZE)
    other = SimulatedCamera("c", scene=scene, seed=4, **SIZE)
    other.render(3)
    first, objects = one.render(40)
    again, same = other.render(40)
    assert np.array_equal(first.image, again.image)
    assert objects == same
    assert objects


def test_an_unknown_scene_is_refused_with_those_there_are():
    with pytest.raises(InputError, match="no scene 'sea'; use road, turn, tunnel, clouds"):
        SimulatedCamera("c", scene="sea", **SIZE)
    with pytest.raises(InputError, match="sim://road, sim://turn, sim://tunnel"):
        simulated_camera("sim://sea", "c")


def test_an_address_names_the_scene():
    named = simulated_camera("sim://tunnel?seed=4&width=320&height=176", "c")
    assert np.array_equal(
        named.render(10)[0].image, SimulatedCamera("c", scene="tunnel", seed=4, **SIZE).render(10)[0].image
    )


def test_cars_turn_round_smoothly_and_never_meet():
    traffic = Turns(4)
    times = np.arange(0.0, 3 * PERIOD, 0.1)
    paths: dict[int, list[tuple[float, float, float]]] = {}
    for time in times:
        turning = [actor for actor in traffic.at(float(time)) if actor.track >= 1_000_000]
        for actor in turning:
            paths.setdefault(actor.track, []).append((actor.x, actor.z, actor.heading))
        for index, actor in enumerate(turning):
            for other in turning[index + 1 :]:
                assert np.hypot(actor.x - other.x, actor.z - other.z) > 6.0
    whole = [path for path in paths.values() if path[0][0] == -RADIUS and path[-1][0] == RADIUS]
    assert whole, "somebody turns within the time looked at"
    for path in whole:
        steps = np.diff(np.array(path), axis=0)
        assert np.hypot(steps[:, 0], steps[:, 1]).max() < 1.0
        assert np.abs(steps[:, 2]).max() < 0.15


def test_who_comes_out_of_the_tunnel_grows_and_gets_light():
    camera = SimulatedCamera("c", scene="tunnel", seed=4, **SIZE)
    seen: dict[int, list[tuple[float, float]]] = {}
    for seq in range(0, 60, 6):
        frame, objects = camera.render(seq)
        for item in objects:
            if item.kind in ("car", "van", "truck", "bus") and item.visible > 0.9:
                box = item.box
                part = frame.image[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)]
                seen.setdefault(item.track, []).append((box.area, float(part.mean())))
    assert max(looks[-1][0] / looks[0][0] for looks in seen.values()) > 8
    came_out = [looks for looks in seen.values() if looks[0][1] < 60 and looks[-1][0] > 2 * looks[0][0]]
    assert came_out, "somebody was in the dark at first"
    assert all(looks[-1][1] > 1.5 * looks[0][1] for looks in came_out)


def test_nothing_in_the_dark_is_reported():
    assert daylight(PORTAL_Z - 5) == 1.0
    deep = next(z for z in np.arange(PORTAL_Z, 200.0) if daylight(float(z)) < SEEN)
    camera = SimulatedCamera("c", scene="tunnel", seed=4, **SIZE)
    street = SimulatedCamera("c", seed=4, **SIZE)
    actors = {actor.track: actor for actor in camera._traffic.at(2.0)}
    reported = {item.track for item in camera.render(20)[1]}
    assert all(actors[track].z < deep for track in reported)
    assert any(actors[item.track].z >= deep for item in street.render(20)[1]), "without a tunnel they are"


def test_clouds_take_a_third_of_the_light_and_give_it_back():
    cloudy = SimulatedCamera("c", scene="clouds", seed=4, **SIZE)
    clear = SimulatedCamera("c", seed=4, **SIZE)

    def share(seq: int) -> float:
        return float(cloudy.render(seq)[0].image.mean() / clear.render(seq)[0].image.mean())

    assert share(20) == pytest.approx(1.0, abs=0.01)
    assert 0.62 < share(50) < 0.75
    assert share(100) == pytest.approx(1.0, abs=0.01)
