"""Docstrings of this project say ``Example:``; griffe knows ``Examples:``, and shows the sessions of that as such."""

from __future__ import annotations

import re
from typing import Any

import griffe


class PluralExamples(griffe.Extension):
    """Rename the section before it is parsed, so that ``>>>`` is a session and not a quotation."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
