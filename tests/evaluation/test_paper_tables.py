"""Parts of a table: run once, shared, pooled; and what is said of the pooled lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from discover_stream.evaluation.experiments.data import PictureSet, load_set
from discover_stream.evaluation.experiments.measuring import PerceptionMeasurer
from discover_stream.evaluation.experiments.parts import Plan, gather, parts_of, run_part
from discover_stream.evaluation.experiments.perception import Perception
from discover_stream.evaluation.experiments.tables import (
    ABLATIONS,
    TABLES,
    Line,
    anchors,
    curve_of,
    default_systems,
    differences,
    table_of,
)
from discover_stream.evaluation.pictures import psnr
from discover_stream.evaluation.registry import build_system
from discover_stream.evaluation.store import CaseStore
from discover_stream.evaluation.systems import Clip, SystemSpec
from discover_stream.semantics.labels import builtin_tasks
from discover_stream.types import InputError

SYSTEMS = ("original", "jpeg:quality=10", "jpeg:quality=60")


@pytest.fixture
def pictures(tmp_path: Path) -> PictureSet:
    (tmp_path / "set").mkdir()
    rng = np.random.default_rng(0)
    for number in range(5):
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        PillowImage.fromarray(coarse).resize((80, 60)).save(tmp_path / "set" / f"{number}.png")
    return load_set(str(tmp_path / "set"), None, "pictures")


def plan(looked: list[str] | None = None, **inputs: str) -> Plan:
    nothing = Perception.load({"lpips": "none", "dists": "none", "inception": "none"})
    specs = [SystemSpec.parse(text) for text in SYSTEMS]

    def find(picture: object, image: object) -> tuple[()]:
        if looked is not None:
            looked.append(picture.name)  # type: ignore[attr-defined]
        return ()

    return Plan("perception", PerceptionMeasurer(nothing), tuple((s, build_system(s)) for s in specs), find, inputs)


def test_parts_are_run_once_and_pooled(tmp_path: Path, pictures: PictureSet) -> None:
    store, parts, done = CaseStore(tmp_path / "out"), parts_of(pictures.pictures, 2), list[tuple[str, bool]]()
    assert [len(part) for part in parts] == [2, 2, 1]
    looked: list[str] = []
    for part in parts:
        run_part(plan(looked), part, store, lambda text, fresh: done.append((text, fresh)))
    assert done == [(text, True) for _ in parts for text in SYSTEMS]
    assert looked == [picture.name for picture in pictures.pictures]  # once, not once for each system
    looked.clear()
    for part in parts:
        run_part(plan(looked), part, store, lambda text, fresh: done.append((text, fresh)))
    assert done[9:] == [(text, False) for _ in parts for text in SYSTEMS]
    assert looked == []
    original, coarse, fine = gather(plan(), parts, store)
    assert [note["picture"] for note in coarse.notes] == [picture.name for picture in pictures.pictures]
    jpeg = build_system(SystemSpec.parse("jpeg:quality=10"))
    assert coarse.bpp < fine.bpp < original.bpp
    scores = plan().measurer.scores(coarse.notes, coarse.features, original.features)
    wanted = []
    for picture in pictures.pictures:
        image = picture.image()
        wanted.append(psnr(image, jpeg.decode(jpeg.encode(Clip("a", (image,), 0.0, ((),)))).frames[0]))
    assert scores["PSNR"] == pytest.approx(float(np.mean(wanted)))
    assert "FID" not in scores


def test_a_part_that_is_missing_or_of_other_inputs_is_not_pooled(tmp_path: Path, pictures: PictureSet) -> None:
    store, parts = CaseStore(tmp_path / "out"), parts_of(pictures.pictures, 3)
    run_part(plan(), parts[0], store, lambda *_: None)
    with pytest.raises(InputError, match="1 of 2 parts are not finished"):
        list(gather(plan(), parts, store))
    with pytest.raises(InputError, match="2 of 2 parts"):
        list(gather(plan(grounder="another"), parts, store))
    first = pictures.pictures[0]
    PillowImage.fromarray(np.zeros((60, 80, 3), np.uint8)).save(first.path)  # a part is its pictures' content
    with pytest.raises(InputError, match="2 of 2 parts"):
        list(gather(plan(), parts, store))


def test_arrays_are_part_of_a_finished_part(tmp_path: Path) -> None:
    store = CaseStore(tmp_path)
    name = store.write_arrays("k", features=np.arange(6, dtype=np.float32).reshape(2, 3))
    np.testing.assert_array_equal(store.read_arrays(name)["features"], [[0, 1, 2], [3, 4, 5]])
    store.write("k", {"arrays": name})
    assert store.read("k") == {"arrays": name}
    (tmp_path / name).unlink()
    assert store.read("k") is None


def line(system: str, bpp: float, **scores: float) -> Line:
    return Line(system.partition(":")[0], system, bpp, scores)


def test_half_the_bits_for_the_same_scores() -> None:
    lines = [line("original", 24.0, AP=60.0, FID=0.0)]
    for number, (ap, fid) in enumerate(((10.0, 90.0), (20.0, 60.0), (30.0, 30.0), (40.0, 10.0)), 1):
        lines.append(line(f"discover-task:quality={number}", 0.05 * 2**number, AP=ap, FID=fid))
        lines.append(line(f"avif:quality={number}", 0.1 * 2**number, AP=ap, FID=fid))
    by_ap, by_fid = differences(lines, ("AP", "FID"))
    assert (by_ap.name, by_ap.anchor, by_ap.measure) == ("discover-task", "avif", "AP")
    assert by_ap.rate == pytest.approx(-50, abs=0.01)
    assert by_ap.quality == pytest.approx(10, abs=0.01)
    assert by_fid.rate == pytest.approx(-50, abs=0.01)
    assert by_fid.quality is not None
    assert by_fid.quality < 0  # a smaller distance at equal bits
    assert by_ap.shared == 1


def test_curves_that_do_not_meet_have_no_difference() -> None:
    lines = [
        line("ours:quality=1", 0.01, AP=1.0),
        line("ours:quality=2", 0.02, AP=2.0),
        line("avif:quality=1", 1.0, AP=50.0),
        line("avif:quality=2", 2.0, AP=60.0),
    ]
    (only,) = differences(lines, ("AP", "mask AP"))
    assert (only.rate, only.quality, only.shared) == (None, None, None)
    assert curve_of(lines, "ours", "mask AP") is None


def test_tables_compare_every_mode_with_the_anchors() -> None:
    for name, table in TABLES.items():
        systems = default_systems(name, (2, 6))
        assert systems[0].text() == "original"
        assert set(anchors()) <= set(systems)
        assert len(set(systems)) == len(systems)
        modes = {spec.name for spec in systems} - {spec.name for spec in anchors()} - {"original"}
        assert modes == (set(table.modes) or {mode for _, mode, _ in ABLATIONS})
        assert table.task in builtin_tasks()
    with pytest.raises(InputError, match="no table 'ablations'; use detection"):
        table_of("ablations")
