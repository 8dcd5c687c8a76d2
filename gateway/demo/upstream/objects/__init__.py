"""What clients make and come back for: files, batches, vector stores, conversations."""
