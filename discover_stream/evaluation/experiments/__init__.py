"""The experiments of the two papers: their data, networks, modes, measures and tables."""
