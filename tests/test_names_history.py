"""The table of names against the wheels themselves, and against the transformers that is installed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import zipfile
from importlib import import_module
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import pytest
import transformers
from packaging.version import Version

import safetransformers
from safetransformers.names import answers, history

SAMPLE = 300
RELEASES = 3
MINOR = str(history.minor(version("transformers")))


def test_the_examples_of_the_troubleshooting_guide_are_known() -> None:
    first, gone, framework = map(history.of_name, ("ImageGPTImageProcessor", "AdamW", "TFBertModel"))
    assert first is not None and gone is not None and framework is not None
    assert first.first == "4.25"
    assert (gone.last, gone.replacement) == ("4.49", "torch.optim.AdamW")
    assert (framework.last, framework.replacement) == ("4.57", "transformers.BertModel")


def test_every_minor_release_is_in_the_table_and_its_date_is_shown() -> None:
    minors = [history.minor(release) for release in history.releases()]
    assert minors == sorted(set(minors)) and str(minors[0]) == "4.2"
    for major, last in ((4, 57), (5, 23)):
        assert {Version(f"{major}.{number}") for number in range(2 if major == 4 else 0, last + 1)} <= set(minors)
    assert len(history.date().split("-")) == 3


def test_the_table_has_exactly_the_names_that_the_installed_release_gives() -> None:
    """Compared with ``__all__``, in which transformers puts the names of what is not installed as well."""
    everything = set(transformers.__all__) - set(transformers._modules)  # type: ignore[attr-defined]
    everything -= {"DummyObject", "requires_backends"}  # what the modules of dummies import for themselves
    installed = {name for name in everything if not name.startswith(("dummy_", "_")) and "." not in name}
    table = {name for name in history.names() if history.of_name(name).covers(MINOR)}  # type: ignore[union-attr]
    assert installed - table == set()
    hidden = [name for name in table - installed if not hasattr(transformers, name)]
    assert {answers.for_name(name).code for name in hidden} <= {"ST-NAME-004"}  # behind a package, without a stand-in
    assert len(hidden) < 5


def test_the_table_has_exactly_the_model_types_of_the_installed_release() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    table = {one for one in history.model_types() if history.of_model_type(one).covers(MINOR)}  # type: ignore[union-attr]
    assert table == set(CONFIG_MAPPING_NAMES)


def test_names_inside_modules_are_there_as_the_table_says() -> None:
    told: list[bool] = []
    for module in ("transformers.modeling_utils", "transformers.pytorch_utils", "transformers.utils.import_utils"):
        there = set(vars(import_module(module)))
        for name in history._table().inner[module]:
            record = history.of_inner(module, name)
            assert record is not None
            if name != "." and record.covers(MINOR):
                told.append(name in there)  # not all branches of a module are taken here
            elif name in there:  # from another package now, which the table does not count
                home = getattr(getattr(sys.modules[module], name), "__module__", "")
                assert not home.startswith("transformers"), (module, name)
    assert len(told) > 100 and sum(told) > 0.97 * len(told)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three releases, drawn anew in each run, from the package index or from what `make names` has left."""
    drawn = random.SystemRandom().sample(history.releases(), RELEASES)  # a failure names the release and the name
    kept = Path(safetransformers.__file__).parents[1] / "build" / "wheels"
    folder = tmp_path_factory.mktemp("wheels")
    found = {}
    for release in drawn:
        name = f"transformers-{release}-py3-none-any.whl"
        if not (kept / name).is_file():
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--ignore-requires-python"]
            done = subprocess.run(
                [*pip, "--only-binary=:all:", "-d", str(folder), f"transformers=={release}"],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                pytest.skip(f"no package index: {done.stderr.strip().splitlines()[-1:]}")
        found[release] = (kept if (kept / name).is_file() else folder) / name
    return found


def test_three_hundred_names_that_are_drawn_are_in_the_wheels_where_the_table_says(wheels: dict[str, Path]) -> None:
    """By another way than the generator's: the name stands, quoted, in a file of the wheel that exports names."""
    names = random.SystemRandom().sample(history.names(), SAMPLE)
    wrong = []
    for release, wheel in wheels.items():
        with zipfile.ZipFile(wheel) as archive:
            exporting = [
                archive.read(entry).decode()
                for entry in archive.namelist()
                if entry.endswith(".py")
                and (entry == "transformers/__init__.py" or entry.startswith("transformers/models/"))
            ]
        init = next(text for text in exporting if "_import_structure" in text and "__version__" in text)
        lists = [text.partition("__all__ =")[2] for text in exporting] if "define_import_structure" in init else []
        exported = "\n".join([init.partition("TYPE_CHECKING:\n")[0], *lists])
        for name in names:
            record = history.of_name(name)
            assert record is not None
            if record.covers(release) != (f'"{name}"' in exported or f"'{name}'" in exported):
                wrong.append((release, name, record.spans))
    assert not wrong, wrong


def test_a_release_requires_what_its_wheel_says(wheels: dict[str, Path]) -> None:
    for release, wheel in wheels.items():
        with zipfile.ZipFile(wheel) as archive:
            entry = next(name for name in archive.namelist() if name.endswith("/METADATA"))
            metadata = archive.read(entry).decode()
        required = history.requirements(release)
        assert f"Requires-Python: {required['python']}\n" in metadata
        for bound in required["tokenizers"].split(","):
            assert bound in metadata


def test_a_gone_name_has_a_replacement_that_is_there_or_a_reason() -> None:
    gone = [name for name in history.names() if history.of_name(name).last is not None]  # type: ignore[union-attr]
    records = {name: history.of_name(name) for name in gone}
    newest = {name for name in history.names() if history.of_name(name).last is None}  # type: ignore[union-attr]
    for name, record in records.items():
        module, _, new = record.replacement.rpartition(".")  # type: ignore[union-attr]
        assert module != "transformers" or new in newest, name
    told = [name for name, record in records.items() if record.replacement or record.reason]  # type: ignore[union-attr]
    assert len(told) > 0.97 * len(gone)
    assert len(gone) > 1600 and len(history.names()) > 5800 and len(history.model_types()) > 800


def test_a_name_that_came_back_has_both_its_times() -> None:
    returned = [name for name in history.names() if len(history.of_name(name).spans) > 1]  # type: ignore[union-attr]
    for name in returned:
        record = history.of_name(name)
        assert record is not None
        (_, last), (first, _) = record.spans[:2]
        assert last is not None and Version(last) < Version(first)
        assert record.covers(last) and record.covers(first)


def test_the_table_is_read_without_torch_and_transformers() -> None:
    code = (
        "from safetransformers.names import answers; import sys; print(answers.for_name('AdamW').code, "
        "answers.for_model_type('mega').code, sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split()[0] == "ST-NAME-002" and run.stdout.rstrip().endswith("[]")


def test_the_table_is_text_whose_differences_can_be_read() -> None:
    lines = files("safetransformers.names").joinpath(history.FILE).read_text(encoding="utf-8").splitlines()
    assert len(lines) > 1000
    assert json.loads("\n".join(lines))["releases"][0] == "4.2.2"
