"""Video: cameras, files and simulated scenes in; pictures and films out."""
