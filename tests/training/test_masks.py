import numpy as np

from discover_stream.training.masks import random_mask


def test_masks_range_from_almost_nothing_to_everything() -> None:
    random = np.random.default_rng(0)
    shares = [float(random_mask(random, 12).mean()) for _ in range(400)]
    assert min(shares) > 0
    assert max(shares) == 1
    assert min(shares) < 0.1
    assert 0.2 < sum(share == 1 for share in shares) / 400 < 0.5
