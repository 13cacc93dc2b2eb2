"""Placeholder."""
from typing import Any
def infer(save: Any, content: Any, model_type: Any, architecture: Any) -> Any:
    from ..errors import UnknownSaveError
    raise UnknownSaveError("ST-TF-005", "no config")
