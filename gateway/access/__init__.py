"""Who asks, and for which model: callers from headers, models from grants, what was looked up just now."""
