"""Every rule: of two that fit one message, the earlier one speaks. Warnings come after all errors."""

from __future__ import annotations

import re
from typing import Final

from . import rules_devices, rules_files, rules_hub, rules_names, rules_padding, rules_tasks
from .rule import Rule

_ERRORS: Final = (rules_devices, rules_hub, rules_tasks, rules_files, rules_names, rules_padding)

RULES: Final[tuple[Rule, ...]] = (
    *(rule for module in _ERRORS for rule in module.RULES),
    *rules_devices.WARNINGS,
    *rules_tasks.WARNINGS,
    *rules_padding.WARNINGS,
    *rules_files.WARNINGS,
)
# One look that tells whether any rule's pattern fits: most lines of a log are of no rule.
ANY: Final = re.compile("|".join(re.sub(r"\(\?P<\w+>", "(?:", f"(?:{rule.pattern})") for rule in RULES), re.MULTILINE)
