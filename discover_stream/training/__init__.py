"""Training of the weights that the project ships."""
