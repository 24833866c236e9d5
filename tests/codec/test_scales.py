import pytest
import torch

from discover_stream.codec.exact import SCALE_LEVELS
from discover_stream.codec.scales import MAGNITUDE_LIMIT, ContextScales, neighbours
from discover_stream.codec.transforms import TransformConfig

CONFIG = TransformConfig(y_channels=12, z_channels=4, groups=(4, 8))


@pytest.fixture
def scales() -> ContextScales:
    torch.manual_seed(0)
    branch = ContextScales(CONFIG)
    for layers in branch.context.values():
        torch.nn.init.normal_(layers["out"].weight)  # type: ignore[index]
    return branch


def test_neighbours_are_the_four_around_a_cell() -> None:
    values = torch.zeros(1, 1, 3, 4)
    values[0, 0, 1, 1] = 5
    assert neighbours(values)[0, 0].tolist() == [[0, 5, 0, 0], [5, 0, 5, 0], [0, 5, 0, 0]]


@torch.no_grad()
def test_without_symbols_z_alone_decides(scales: ContextScales) -> None:
    base = scales.base(torch.randint(-3, 4, (1, 4, 2, 2)).float(), torch.tensor([3]), torch.tensor([1]))
    assert base.shape == (1, 12, 8, 8)
    index = scales.indices(base, 0, False, torch.zeros(1, 0, 8, 8))
    assert torch.equal(index, base[:, :4].clamp(0, SCALE_LEVELS - 1))


@torch.no_grad()
@pytest.mark.parametrize(("group", "second", "known"), [(0, True, 4), (1, False, 4), (1, True, 12)])
def test_a_symbol_moves_the_scales_of_its_cell_and_neighbours_only(
    scales: ContextScales, group: int, second: bool, known: int
) -> None:
    base = torch.full((1, 12, 6, 6), SCALE_LEVELS / 2)
    sizes = torch.zeros(1, known, 6, 6)
    before = scales.indices(base, group, second, sizes)
    sizes[0, 0, 2, 3] = 4
    moved = (scales.indices(base, group, second, sizes) != before).any(dim=1)[0]
    assert sorted(map(tuple, torch.nonzero(moved).tolist())) == [(1, 3), (2, 2), (2, 3), (2, 4), (3, 3)]


@torch.no_grad()
def test_huge_symbols_count_as_the_limit(scales: ContextScales) -> None:
    base = torch.full((1, 12, 4, 4), SCALE_LEVELS / 2)
    limit = torch.full((1, 4, 4, 4), float(MAGNITUDE_LIMIT))
    assert torch.equal(scales.indices(base, 0, True, limit), scales.indices(base, 0, True, limit * 1000))


@torch.no_grad()
def test_indices_stay_in_the_table(scales: ContextScales) -> None:
    base = torch.randn(1, 12, 4, 4) * 200
    index = scales.indices(base, 1, True, torch.rand(1, 12, 4, 4) * 15)
    assert float(index.min()) >= 0
    assert float(index.max()) <= SCALE_LEVELS - 1
