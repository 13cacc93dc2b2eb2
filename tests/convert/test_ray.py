"""The example that converts a list of saves on a Ray cluster, on a local one of two workers."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import saves

ray = pytest.importorskip("ray", reason="ray is in an environment of its own: make test-ray")

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "convert_with_ray.py"

pytestmark = pytest.mark.xdist_group("distributed")


@pytest.fixture
def example() -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("convert_with_ray", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path = {"PYTHONPATH": ":".join([str(ROOT), *sys.path])}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": path})
    yield module
    ray.shutdown()


def test_a_list_of_saves_is_converted_and_a_second_run_does_what_is_missing(example: Any, tmp_path: Path) -> None:
    sources = [saves.tf_model(tmp_path / name, saves.model()) for name in ("one", "two", "three")]
    (tmp_path / "empty").mkdir()
    first = {done.source.name: done for done in example.convert_all([*sources, tmp_path / "empty"], tmp_path / "out")}
    assert first["empty"].error.code == "ST-TF-001"
    assert all(first[source.name].report.verified == 41 for source in sources)
    shutil.rmtree(tmp_path / "out" / "two")
    again = {done.source.name: done.report.was_done_before for done in example.convert_all(sources, tmp_path / "out")}
    assert again == {"one": True, "two": False, "three": True}
