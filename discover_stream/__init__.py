"""discover-stream: traffic-camera video as task-scoped learned bitstreams."""

__version__ = "0.1.0"
