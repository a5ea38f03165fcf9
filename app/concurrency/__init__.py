"""Thread pools, locks and bounded queues."""
