import pytest
import torch

from discover_stream.codec.transforms import TransformConfig, Transforms

TINY = TransformConfig(
    stem_channels=8,
    analysis_channels=16,
    wide_channels=16,
    y_channels=16,
    z_channels=8,
    groups=(4, 12),
    hyper_channels=16,
    reference_channels=8,
    synthesis_channels=16,
)


@pytest.fixture
def network() -> Transforms:
    torch.manual_seed(0)
    return Transforms(TINY).eval()


def test_groups_must_fill_y() -> None:
    with pytest.raises(ValueError, match="add up"):
        TransformConfig(groups=(32, 32))


@torch.no_grad()
def test_shapes_of_every_network(network: Transforms) -> None:
    picture, reference = torch.rand(2, 3, 64, 128), torch.randn(2, 16, 8, 16)
    flagged = network.with_flag(reference, torch.tensor([1, 0]))
    psi_r = network.reference_features(flagged)
    y, z = network.analyse(picture, psi_r)
    psi, coarse = network.hyper_features(z)
    assert flagged.shape == (2, 17, 8, 16)
    assert psi_r.shape == (2, 8, 4, 8)
    assert y.shape == (2, 16, 4, 8)
    assert z.shape == (2, 8, 1, 2)
    assert psi.shape == (2, 16, 4, 8)
    latent = network.synthesise(y, torch.ones(2, 1, 4, 8), coarse, psi_r, flagged)
    assert latent.shape == reference.shape


@torch.no_grad()
def test_an_absent_reference_leaves_no_trace(network: Transforms) -> None:
    """Whatever stands in the reference of a still atom, nothing of it is seen."""
    absent = torch.tensor([0])
    outputs = []
    for reference in (torch.zeros(1, 16, 8, 8), torch.randn(1, 16, 8, 8) * 9):
        flagged = network.with_flag(reference, absent)
        outputs.append((flagged, network.reference_features(flagged)))
    assert torch.equal(outputs[0][0], outputs[1][0])
    assert torch.equal(outputs[0][1], outputs[1][1])
    assert not outputs[0][1].any()


@torch.no_grad()
def test_a_present_reference_is_seen_by_means_and_synthesis(network: Transforms) -> None:
    mask, known = torch.ones(1, 1, 4, 4), torch.zeros(1, 4, 4, 4)
    coarse, psi, y = torch.zeros(1, 64, 4, 4), torch.zeros(1, 16, 4, 4), torch.zeros(1, 16, 4, 4)
    means, latents = [], []
    for seed in (1, 2):
        reference = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(seed))
        flagged = network.with_flag(reference, torch.tensor([1]))
        psi_r = network.reference_features(flagged)
        means.append(network.context.means(0, torch.cat([psi, psi_r], 1), known, mask, second=False))
        latents.append(network.synthesise(y, mask, coarse, psi_r, flagged) - reference)
    assert not torch.allclose(means[0], means[1])
    assert not torch.allclose(latents[0], latents[1])


@torch.no_grad()
def test_what_lies_outside_the_mask_does_not_reach_means_or_synthesis(network: Transforms) -> None:
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 1:3, 1:3] = 1
    features, coarse = torch.zeros(1, 24, 4, 4), torch.zeros(1, 64, 4, 4)
    psi_r, flagged = torch.zeros(1, 8, 4, 4), torch.zeros(1, 17, 8, 8)
    y = torch.randn(1, 16, 4, 4)
    soiled = y + 50 * (1 - mask)
    for one, two in ((y, soiled),):
        assert torch.equal(
            network.context.means(0, features, one[:, :4], mask, second=True),
            network.context.means(0, features, two[:, :4], mask, second=True),
        )
        assert torch.equal(
            network.synthesise(one, mask, coarse, psi_r, flagged), network.synthesise(two, mask, coarse, psi_r, flagged)
        )
