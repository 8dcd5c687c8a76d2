"""What operators see: the log, traces, metrics, and the calls in flight."""
