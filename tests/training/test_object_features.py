import pytest
import torch

from discover_stream.training.object_features import ObjectFeatures


@pytest.fixture(scope="module")
def distance() -> ObjectFeatures:
    return ObjectFeatures()


def test_the_same_picture_is_at_no_distance_and_a_coarser_one_farther(distance: ObjectFeatures) -> None:
    torch.manual_seed(0)
    picture = torch.rand(2, 3, 64, 96)
    weight = torch.ones(2, 1, 8, 12)
    near = picture + 0.01 * torch.randn_like(picture)
    far = picture + 0.2 * torch.randn_like(picture)
    assert distance(picture, picture, weight).tolist() == [0.0, 0.0]
    assert (distance(near, picture, weight) < distance(far, picture, weight)).all()


def test_errors_count_by_the_weight_of_their_place_and_have_gradients(distance: ObjectFeatures) -> None:
    torch.manual_seed(1)
    picture = torch.rand(1, 3, 128, 128)
    decoded = picture.clone()
    decoded[..., :32] = 0.5
    decoded.requires_grad_()
    left = torch.zeros(1, 1, 16, 16)
    left[..., :4] = 1
    right = torch.zeros(1, 1, 16, 16)
    right[..., 12:] = 1
    there, elsewhere = distance(decoded, picture, left), distance(decoded, picture, right)
    assert float(there.detach()) > 0.05
    assert float(elsewhere.detach()) < float(there.detach()) / 20
    there.sum().backward()
    assert decoded.grad is not None
    assert decoded.grad.abs().sum() > 0
