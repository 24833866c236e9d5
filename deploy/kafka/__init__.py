"""A real Apache Kafka on this machine's loopback, for development and tests. See docs/kafka.md."""
