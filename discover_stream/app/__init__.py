"""App: the composition root, command line and demo."""
