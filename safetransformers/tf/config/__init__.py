"""The configuration of the model that a save holds: found, or inferred from the shapes of its weights."""
