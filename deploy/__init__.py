"""What is run beside the system: brokers."""
