"""The loading guard: weights that are not in the checkpoint, pickle weights, unpinned remote code."""
