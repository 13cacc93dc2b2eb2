"""Importing safetransformers costs nothing, and a name means the same whatever was imported before."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import safetransformers as st

ROOT = Path(st.__file__).parents[1]
# Without those that need an extra, or that run when imported.
_APART = ("safetransformers.cli.", "safetransformers.__main__")
SUBMODULES = [
    found.name for found in pkgutil.walk_packages(st.__path__, "safetransformers.") if not found.name.startswith(_APART)
]
HEAVY = ("torch", "transformers", "wrapt", "tokenizers", "huggingface_hub", "numpy")


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "code",
    [
        "import safetransformers",
        "import safetransformers as st; dir(st), st.__version__, st.__all__, st.__doc__",
        "import safetransformers as st, inspect; hasattr(st, '__wrapped__'), inspect.unwrap(st)",
        "import safetransformers as st, doctest; hasattr(st, '_anything'), hasattr(st, '__test__')",
        "from safetransformers import errors, notices",
        "import safetransformers as st; st.errors.LoadingError",
        "from safetransformers import Policy, configure, policy, strict, get_policy; configure(strict=True)",
        "from safetransformers import report; report()",
    ],
)
def test_looking_at_the_package_imports_neither_torch_nor_transformers(code: str) -> None:
    assert run(f"{code}\nimport sys; print([m for m in {HEAVY} if m in sys.modules])").strip() == "[]"


@pytest.mark.parametrize("order", ["sorted", "reversed"])
def test_a_public_name_is_never_hidden_by_a_submodule(order: str) -> None:
    modules = SUBMODULES if order == "sorted" else SUBMODULES[::-1]
    code = (
        "import importlib, types, safetransformers as st\n"
        f"for name in {modules}: importlib.import_module(name)\n"
        "print([name for name in st.__all__ if isinstance(getattr(st, name), types.ModuleType)])\n"
        "print(type(st.policy).__name__, type(st.patch).__name__)\n"
    )
    assert run(code).split("\n")[:2] == ["[]", "function function"]


def test_every_public_name_resolves_and_is_documented() -> None:
    for name in st.__all__:
        value = getattr(st, name)
        assert getattr(st, name) is value
        if name != "__version__":
            assert value.__doc__
            assert value.__module__.startswith("safetransformers")


def test_a_star_import_gives_the_public_names() -> None:
    code = "from safetransformers import *; import safetransformers as st; print(set(st.__all__) - set(globals()))"
    assert run(code).strip() == "set()"


def test_a_submodule_wins_over_a_name_of_transformers() -> None:
    # `transformers.cli` exists too: each form of import must find ours.
    out = run("from safetransformers import cli; import safetransformers as st; print(cli.__name__, st.cli.__name__)")
    assert out.split() == ["safetransformers.cli"] * 2


def test_an_auto_class_imports_no_model() -> None:
    code = (
        "from safetransformers import AutoModel; import sys; print([m for m in sys.modules if '.modeling_bert' in m])"
    )
    assert run(code).strip() == "[]"
