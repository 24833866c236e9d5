import itertools
import math
from collections import defaultdict

import numpy as np
import pytest

from discover_stream.types import InputError
from discover_stream.video.simulate import KINDS, SimulatedCamera
from discover_stream.video.traffic import LENGTHS, PARK_FIRST, PARKING_Z, Traffic, Visit

SMALL = {"width": 320, "height": 176}


@pytest.fixture(scope="module")
def camera() -> SimulatedCamera:
    return SimulatedCamera("gate", seed=3)


@pytest.fixture(scope="module")
def truth(camera):
    """Ground truth of 40 s, every half second: {seq: {track: object}}."""
    return {seq: {item.track: item for item in camera.render(seq)[1]} for seq in range(0, 300, 6)}


def test_same_seed_same_frames_in_any_order():
    first, again = SimulatedCamera("c", seed=3, **SMALL), SimulatedCamera("c", seed=3, **SMALL)
    forward = [first.render(seq) for seq in (2, 37)]
    backward = [again.render(seq) for seq in (37, 2)][::-1]
    for (frame, objects), (other, others) in zip(forward, backward, strict=True):
        assert np.array_equal(frame.image, other.image)
        assert objects == others


def test_other_seed_other_scene():
    images = [SimulatedCamera("c", seed=seed, **SMALL).render(0)[0].image.astype(int) for seed in (3, 4)]
    assert np.abs(images[0] - images[1]).mean() > 10


def test_iteration_counts_frames_and_times():
    simulated = SimulatedCamera("c", seed=1, fps=12.5, duration_s=0.4, start_ns=1000, **SMALL)
    frames = [frame for frame, _ in simulated]
    assert [frame.seq for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.capture_ns for frame in frames] == [1000 + 80_000_000 * i for i in range(5)]
    assert all(frame.camera == "c" and frame.image.shape == (176, 320, 3) for frame in frames)
    assert all(frame.image.dtype == np.uint8 for frame in frames)
    with pytest.raises(InputError, match="no frame 5"):
        simulated.render(5)


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (640, 11)])
def test_odd_sizes(size):
    simulated = SimulatedCamera("c", seed=2, width=size[0], height=size[1])
    frame, objects = simulated.render(9)
    assert frame.image.shape == (size[1], size[0], 3)
    assert all(0 <= o.box.x0 < o.box.x1 <= size[0] and 0 <= o.box.y0 < o.box.y1 <= size[1] for o in objects)


@pytest.mark.parametrize(
    "wrong",
    [{"width": 0}, {"height": 5000}, {"fps": 0.0}, {"fps": math.nan}, {"duration_s": -1.0}, {"seed": -1}],
)
def test_refuses_what_it_cannot_render(wrong):
    with pytest.raises(InputError, match="simulated camera c: "):
        SimulatedCamera("c", **wrong)


def test_boxes_enclose_what_was_drawn(camera):
    """An object's removal changes pixels exactly inside its box, tightly on all four sides."""
    checked = 0
    for seq in (12, 260):
        image, objects = camera.render(seq, shadows=False)
        for item in objects:
            if item.box.area < 60:
                continue
            bare, _ = camera.render(seq, shadows=False, without=[item.track])
            changed = np.abs(bare.image.astype(int) - image.image).max(axis=2) > 6
            rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
            box = item.box
            assert columns[0] >= box.x0 - 1
            assert columns[-1] + 1 <= box.x1 + 1
            assert rows[0] >= box.y0 - 1
            assert rows[-1] + 1 <= box.y1 + 1
            # Tight: what is drawn reaches close to every side, where its colour differs from what is behind.
            slack = 2 + 0.08 * (box.x1 - box.x0 + box.y1 - box.y0)
            assert columns[0] <= box.x0 + slack
            assert columns[-1] + 1 >= box.x1 - slack
            assert rows[0] <= box.y0 + slack
            assert rows[-1] + 1 >= box.y1 - slack
            checked += 1
    assert checked > 30


def test_visible_share_tells_occlusion_and_the_edge(camera, truth):
    hidden = [(s, o) for s, objects in truth.items() for o in objects.values() if o.visible < 0.5]
    assert hidden
    whole = [o for objects in truth.values() for o in objects.values() if o.visible == 1.0]
    assert len(whole) > 300
    inner = [
        (seq, o)
        for seq, o in hidden
        if o.box.x0 > 1 and o.box.y0 > 1 and o.box.x1 < camera.width - 1 and o.box.y1 < camera.height - 1
    ]
    assert inner, "nothing is ever hidden behind something else"
    seq, item = max(inner, key=lambda pair: pair[1].box.area)
    others = [track for track in truth[seq] if track != item.track]
    alone = {o.track: o for o in camera.render(seq, without=others)[1]}[item.track]
    assert alone.visible > 0.98
    assert alone.box.area >= item.box.area
    leaving = [o for objects in truth.values() for o in objects.values() if o.box.x1 >= camera.width]
    assert any(o.visible < 0.9 for o in leaving)


def test_tracks_keep_their_kind_and_move_smoothly(camera, truth):
    kinds = defaultdict(set)
    for objects in truth.values():
        for item in objects.values():
            kinds[item.track].add(item.kind)
            assert item.track > 0
            assert 0 < item.visible <= 1
            assert item.kind in KINDS
    assert all(len(names) == 1 for names in kinds.values())
    assert set().union(*kinds.values()) >= {"car", "van", "person", "bicycle", "motorcycle"}
    here, there = ({o.track: o for o in camera.render(seq)[1]} for seq in (100, 101))
    for track in here.keys() & there.keys():
        if min(here[track].visible, there[track].visible) > 0.99:
            assert here[track].box.iou(there[track].box) > 0 or here[track].box.area < 200


def test_all_kinds_appear_over_the_seeds():
    seen = {actor.kind for seed in range(2) for t in range(0, 120, 6) for actor in Traffic(seed).at(float(t))}
    assert seen == set(KINDS)


def test_oncoming_vehicles_grow(camera):
    rises = 0
    history = defaultdict(list)
    for seq in range(0, 120, 3):
        for item in camera.render(seq)[1]:
            inside = item.box.y1 < camera.height and item.box.x0 > 0
            if item.kind == "car" and item.visible > 0.95 and inside:
                history[item.track].append(item.box.y1 - item.box.y0)
    for heights in history.values():
        if len(heights) >= 10 and heights[-1] > 3 * heights[0]:
            rises += 1
            assert all(after >= before - 2 for before, after in itertools.pairwise(heights))
    assert rises >= 2


def test_faster_lanes_overtake():
    traffic = Traffic(3)
    before, after = ({a.track: a for a in traffic.at(t)} for t in (10.0, 14.0))
    away = [t for t in before.keys() & after.keys() if before[t].heading == 0 and 1 < before[t].x < 7]
    overtaken = [
        (slow, fast)
        for slow, fast in itertools.permutations(away, 2)
        if before[fast].z < before[slow].z and after[fast].z > after[slow].z
    ]
    assert overtaken
    assert all(before[fast].x < before[slow].x for slow, fast in overtaken)


@pytest.mark.parametrize("seed", range(2))
def test_nobody_drives_through_anybody(seed):
    """Vehicles never overlap on the ground, and walkers cross only in front of or behind them."""
    traffic = Traffic(seed)
    for step in range(0, 1200):
        actors = [a for a in traffic.at(step * 0.1) if a.kind != "person" or abs(a.x) < 8]
        for first, second in itertools.combinations(actors, 2):
            if first.kind == second.kind == "person":
                continue
            widths = [0.4 if a.kind in ("person", "bicycle", "motorcycle") else 0.9 for a in (first, second)]
            apart_x = abs(first.x - second.x) - sum(widths)
            apart_z = abs(first.z - second.z) - (LENGTHS[first.kind] + LENGTHS[second.kind]) / 2
            assert apart_x > 0 or apart_z > 0, (step, first, second)


def test_a_car_parks_stands_and_leaves(camera):
    traffic = Traffic(camera.seed)
    visitors = {
        actor.track
        for step in range(300)
        for actor in traffic.at(step * 0.1)
        if actor.kind in ("car", "van") and abs(actor.z - PARKING_Z) < 0.01 and actor.x > 9
    }
    assert len(visitors) == 1
    track = visitors.pop()
    path = {s: a for s in range(400) for a in traffic.at(s * 0.1) if a.track == track}
    standing = [s for s, a in path.items() if abs(a.z - PARKING_Z) < 1e-6]
    assert standing == list(range(standing[0], standing[-1] + 1))
    assert len(standing) > 50
    assert path[min(path)].x < 6.5
    assert path[max(path)].z > 80
    stays = [camera.render(s)[1] for s in (standing[2], standing[-2])]
    boxes = [{o.track: o.box for o in objects}[track] for objects in stays]
    assert boxes[0].iou(boxes[1]) > 0.9
    gone = camera.render(standing[-1] + 60)[1]
    assert all(o.track != track or o.box.iou(boxes[0]) < 0.1 for o in gone)


def test_parking_is_smooth():
    visit = Visit("car", 1, PARK_FIRST, 7.0)
    times = np.arange(visit.start, visit.gone, 0.05)
    x, z = visit.path(times)
    speed = np.hypot(np.diff(x), np.diff(z)) / 0.05
    assert speed.max() < 1.4 * Visit.SPEED
    assert np.abs(np.diff(speed)).max() < 1.0
    assert (np.diff(z) >= 0).all()


def test_vehicles_have_many_colours(camera):
    """Middles of car sides differ: at least five clearly different paints in half a minute."""
    paints: list[np.ndarray] = []
    tracks = set()
    for seq in range(0, 300, 10):
        frame, objects = camera.render(seq)
        for item in objects:
            box = item.box
            if item.kind != "car" or item.visible < 0.95 or box.area < 900 or item.track in tracks:
                continue
            tracks.add(item.track)
            patch = frame.image[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)].reshape(-1, 3)
            colour = np.median(patch, axis=0)
            if all(np.abs(colour - other).max() > 30 for other in paints):
                paints.append(colour)
    assert len(paints) >= 5


def test_light_drifts_and_the_sensor_is_noisy(camera):
    sky = np.s_[5:25, 200:400]
    now, following = (camera.render(seq)[0].image[sky].astype(float) for seq in (0, 1))
    assert 0.5 < np.std(now - following) < 6
    assert abs(now.mean() - following.mean()) < 0.6
    levels = [camera.render(seq)[0].image[sky].mean() for seq in range(0, 900, 100)]
    assert np.ptp(levels) > 3


def test_shadows_darken_the_road(camera):
    lit = camera.render(40, shadows=False)[0].image.astype(int)
    shaded = camera.render(40)[0].image.astype(int)
    assert (lit - shaded >= 0).all()
    assert ((lit - shaded).max(axis=2) > 20).mean() > 0.005
