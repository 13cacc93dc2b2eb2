"""The scripts that write saves import TensorFlow, and are no tests."""

from __future__ import annotations

collect_ignore_glob = ["make_*.py"]
