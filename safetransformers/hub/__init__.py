"""The hub guard: a cached model always loads, quickly, from one commit."""
