"""Named weights: registry, download and checkpoints."""
