"""Names: which Auto class loads a checkpoint, and which release of transformers has a name."""
