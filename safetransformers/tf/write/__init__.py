"""Shards of safetensors, written beside the destination, compared, and moved into place."""
