"""Out of memory: what filled the memory, what fits instead, and going on with less."""
