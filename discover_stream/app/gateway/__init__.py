"""The HTTP gateway: cameras, tasks, what flows, and replays, for people and programs."""
