"""explain() of texts that are no error, of everyday errors of other code, and what it costs."""

from __future__ import annotations

import inspect
import json
import random
import re
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import pytest
import transformers
from explain_making import raised

import safetransformers as st
from safetransformers.explanations.meanings import MEANINGS

ROOT = Path(__file__).parents[1]


def text_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def code_of(told: BaseException | str) -> str | None:
    found = st.explain(told)
    return found.code if found else None


def _sources() -> list[Path]:
    """Source of the standard library, of transformers, of this library and of its tests."""
    standard = Path(inspect.getfile(json)).parents[1]
    found = [*standard.glob("*.py"), *(ROOT / "safetransformers").rglob("*.py"), *(ROOT / "tests").glob("*.py")]
    home = Path(transformers.__file__).parent
    parts = ("*.py", "utils/*.py", "generation/*.py", "pipelines/*.py", "models/auto/*.py", "models/bert/*.py")
    return found + [path for part in parts for path in home.glob(part)]


def test_source_code_is_no_error() -> None:
    texts = {path: path.read_text(encoding="utf-8", errors="ignore") for path in _sources()}
    known = {path: told for path, text in texts.items() if (told := code_of(text))}
    doctests = {path for path in known if "        Traceback (most recent call last):\n" in texts[path]}
    assert known.keys() - doctests == set()  # an example that shows a traceback is one
    assert len(doctests) < 3


def test_random_pieces_of_source_code_are_no_error() -> None:
    chance = random.Random(0)
    lines = [line for path in _sources()[::7] for line in path.read_text(errors="ignore").splitlines()]
    for _ in range(200):
        start = chance.randrange(len(lines))
        piece = "\n".join(lines[start : start + chance.randrange(1, 40)])
        assert st.explain(piece) is None, piece


def test_pages_of_documentation_are_no_error() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *Path(sys.prefix).rglob("*.dist-info/METADATA")]
    assert len(pages) > 50
    assert {path: told for path in pages if (told := code_of(path.read_text(errors="ignore")))} == {}


MENTIONS = (
    "CUDA out of memory. Tried to allocate 2.00 GiB",
    "IndexError: index out of range in self",
    "Asking to pad but the tokenizer does not have a padding token",
    "We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the cached files",
    "[ST-MASK-001] padded rows",
)


@pytest.mark.parametrize("mention", MENTIONS)
def test_a_source_line_that_mentions_a_known_error_is_not_one(mention: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"def handle(text):\n    raise ValueError('mine')\n\nhandle('''\n{mention}\n''')\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert "ValueError: mine" in done.stderr
    assert st.explain(done.stderr) is None

    edited = tmp_path / "edited.py"  # Python shows the line of the file as it is now
    code = compile("raise ValueError('mine')", str(edited), "exec")
    edited.write_text(f"{mention}\n")
    text = text_of(raised(lambda: exec(code)))
    assert f"    {mention}\n" in text
    assert st.explain(text) is None

    def run() -> None:
        message = mention
        raise ValueError(f"{len(message)} letters")

    error = raised(run)
    assert st.explain(error) is None and st.explain(text_of(error)) is None


@pytest.mark.parametrize(
    "error",
    [
        ValueError("something else"),
        KeyError("gpt2"),
        IndexError("list index out of range"),
        ConnectionRefusedError(111, "Connection refused"),
        ConnectionError(),
        TimeoutError("timed out"),
        OSError(2, "No such file or directory", "data.csv"),
        ModuleNotFoundError("No module named 'my_own_module'"),
        ImportError("cannot import name 'mine' from 'my_own_module' (/home/me/my_own_module.py)"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        KeyboardInterrupt(),
        SystemExit(1),
    ],
    ids=lambda error: f"{type(error).__name__} {error}",
)
def test_an_everyday_error_of_other_code_is_unknown(error: BaseException) -> None:
    assert st.explain(error) is None
    assert st.explain(text_of(raised(lambda: (_ for _ in ()).throw(error)))) is None


@pytest.mark.parametrize(
    "text",
    [
        "ModuleNotFoundError: No module named 'torch._six'",
        "ModuleNotFoundError: No module named 'datasets.utils.x'",
        "AttributeError: module 'transformers' has no attribute 'models'",
        "AttributeError: module 'transformers' has no attribute '__version__'",
        "ImportError: cannot import name '__version__' from 'transformers' (unknown location)",
        "ImportError: cannot import name 'foo' from 'datasets' (/home/x/proj/datasets/__init__.py)",
        (
            "ImportError: cannot import name 'foo' from partially initialized module 'datasets' (most likely due to a "
            "circular import) (/home/x/proj/datasets.py)"
        ),
        (
            "ImportError: cannot import name 'AutoModel' from partially initialized module 'transformers' (most likely "
            "due to a circular import) (/usr/lib/python3/dist-packages/transformers/__init__.py)"
        ),
    ],
)
def test_an_import_that_tells_nothing_of_releases_and_packages_is_unknown(text: str) -> None:
    assert st.explain(text) is None


@pytest.mark.parametrize(
    "text",
    [
        (
            "ImportError: cannot import name 'AutoModel' from 'transformers' (consider renaming "
            "'/home/me/transformers.py' if it has the same name as a library you intended to import)"
        ),
        (
            "AttributeError: module 'transformers' has no attribute 'AutoModel' (consider renaming "
            "'/home/me/transformers.py' if it has the same name as a library you intended to import)"
        ),
        (
            "AttributeError: partially initialized module 'transformers' has no attribute 'AutoModel' (most likely due "
            "to a circular import)"
        ),
    ],
)
def test_a_file_of_the_users_in_place_of_transformers_is_told_as_each_python_says_it(text: str) -> None:
    assert code_of(text) == "ST-NAME-508"


def test_a_name_that_an_installed_package_lacks_is_a_conflict_wherever_packages_are_installed() -> None:
    for folder in ("/usr/lib/python3/dist-packages", r"C:\Python\Lib\site-packages"):
        text = f"ImportError: cannot import name 'foo' from 'datasets' ({folder}/datasets/__init__.py)"
        assert code_of(text.replace("/", "\\") if folder.startswith("C") else text) == "ST-NAME-501"


def test_a_server_that_is_not_the_hub_is_not_called_the_hub() -> None:
    import requests

    error = raised(lambda: requests.get("http://127.0.0.1:9/metrics", timeout=5))
    assert "Connection refused" in str(error)
    assert st.explain(error) is None and st.explain(text_of(error)) is None


@pytest.mark.parametrize(
    "text", ["", "\n\n", "all is well", "\x00\x01", "Traceback (most recent call last):", "  |" * 99]
)
def test_nothing_is_made_of_nothing(text: str) -> None:
    assert st.explain(text) is None


@pytest.mark.parametrize("wrong", [None, 3, b"IndexError: index out of range in self"])
def test_something_that_is_neither_is_a_type_error(wrong: object) -> None:
    with pytest.raises(TypeError, match="explain takes an exception or a text"):
        st.explain(wrong)


def test_a_long_log_is_read_in_seconds() -> None:
    log = "\n".join(f"2026-11-26 12:00:00,123 - trainer - INFO - step {i}: loss 0.3" for i in range(200_000))
    found: list[str | None] = []
    worker = threading.Thread(target=lambda: found.append(code_of(f"{log}\nIndexError: Target 7 is out of bounds.")))
    worker.start()
    worker.join(30)
    assert found == ["ST-ASSERT-503"]


def test_a_text_is_explained_without_torch_and_transformers() -> None:
    texts = (
        "IndexError: Target 7 is out of bounds.",
        "ST-HUB-004",
        "ImportError: cannot import name 'AdamW' from 'transformers' (/home/me/transformers/__init__.py)",
        "ValueError: Tokenizer class Mine does not exist or is not currently imported.",
    )
    code = (
        f"import safetransformers as st, sys\nprint([bool(st.explain(text)) for text in {texts!r}])\n"
        "print([name for name in ('torch', 'transformers', 'huggingface_hub', 'wrapt') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == [str([True] * len(texts)), "[]"]


def test_every_code_of_the_library_has_a_meaning() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "safetransformers").rglob("*.py")]
    codes = {code for source in sources for code in re.findall(r"\bST-[A-Z]+-\d{3}\b", source)}
    assert codes == set(MEANINGS)
