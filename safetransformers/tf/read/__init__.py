"""Readers: one a format, each gives names and arrays, and refuses what is broken or unsafe."""
