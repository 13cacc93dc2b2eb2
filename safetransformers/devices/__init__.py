"""Ids, positions and labels beyond their tables: named before a GPU's kernel stops at them, and after."""
