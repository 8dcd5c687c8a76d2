"""Run gateway processes: one, several workers, and upgrades between versions."""
