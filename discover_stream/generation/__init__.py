"""Generation: latents -> picture."""
