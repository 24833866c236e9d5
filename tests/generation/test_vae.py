import torch

from discover_stream.generation.vae import LATENT_CHANNELS, build_vae, decode_latent, encode_picture


def test_shapes_and_range_of_the_picture() -> None:
    torch.manual_seed(0)
    vae = build_vae()
    picture = torch.rand(2, 3, 64, 128)
    with torch.no_grad():
        latent = encode_picture(vae, picture)
        output = decode_latent(vae, latent)
    assert latent.shape == (2, LATENT_CHANNELS, 8, 16)
    assert output.shape == picture.shape


def test_a_pixel_reaches_only_its_neighbourhood() -> None:
    """Positions do not wander: the pixel shuffle on both sides must agree."""
    torch.manual_seed(0)
    vae = build_vae()
    latent = torch.zeros(1, LATENT_CHANNELS, 32, 32)
    changed = latent.clone()
    changed[..., 4, 28] = 2
    with torch.no_grad():
        moved = (decode_latent(vae, changed) - decode_latent(vae, latent)).abs().amax(dim=(0, 1))
    rows, columns = torch.nonzero(moved > 1e-6, as_tuple=True)
    assert len(rows) > 0
    assert int(rows.max()) < 160
    assert int(columns.min()) > 96
