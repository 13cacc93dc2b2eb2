"""What pip calls a package that Python, transformers or a message calls otherwise."""

from __future__ import annotations

from typing import Final

_PIP_NAMES: Final = {
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "faiss": "faiss-cpu",
    "flash_attn": "flash-attn --no-build-isolation",
    "google.protobuf": "protobuf",
    "jinja": "jinja2",
    "mistral_common": "mistral-common",
    "pil": "pillow",
    "pytorch": "torch",
    "sklearn": "scikit-learn",
    "speech": "torchaudio",
    "tensorflow_text": "tensorflow-text",
    "tf": "tensorflow",
    "vision": "pillow",
}


def pip_name(name: str) -> str:
    """What to give to ``pip install``, of a module, a backend of transformers, or a library as a message names it.

    Example:
        >>> pip_name("PIL"), pip_name("vision"), pip_name("torchvision")
        ('pillow', 'pillow', 'torchvision')
    """
    return _PIP_NAMES.get(name.lower(), name.lower())
