"""What upstreams say when they refuse or fail: what it means, what of it a client sees, what the log keeps."""
