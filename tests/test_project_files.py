"""The files around the package say what is so: workflows, citation, security, pre-commit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import safetransformers as st
from safetransformers.compat import SUPPORTED

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(workflow: Any) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_the_matrix_is_what_the_package_promises() -> None:
    matrix = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["matrix"]["strategy"]["matrix"]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert matrix["python"] == re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)
    assert matrix["transformers"] == ["4.57.*", "5.0.*", "<6"] and '"transformers>=4.57,<6"' in project


def test_the_ranges_that_are_checked_are_those_that_pip_installs() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    assert listed
    assert SUPPORTED.items() <= dict(re.findall(r'"([\w-]+)([<>=][^"]*)"', listed[1])).items()


@pytest.mark.xdist_group("groups")
def test_a_test_reaches_its_worker_under_the_name_of_its_group(request: pytest.FixtureRequest) -> None:
    """pytest 9.2 and pytest-xdist 3.8 lose it: each worker then makes what a group shares."""
    if not request.config.getoption("loadgroup", default=False):
        pytest.skip("needs pytest -n 2 --dist loadgroup, as make test runs it")
    assert request.node.nodeid.endswith("@groups")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_few_rights_and_pinned_actions(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert used and all(re.fullmatch(r"[\w.-]+/[\w.-]+@v\d+\.\d+\.\d+", name) for name in used), used


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_targets_that_the_makefile_has(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    runs = [
        found for step in steps(read(path)) for found in re.findall(r"\bmake ((?:[a-z-]+ ?)+)", step.get("run", ""))
    ]
    targets = {target for run in runs for target in run.split()}
    assert targets and all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets), targets


def test_the_citation_has_the_version() -> None:
    cited = read(ROOT / "CITATION.cff")
    assert cited["version"] == st.__version__ and cited["cff-version"] == "1.2.0"
    assert {"title", "authors", "message"} <= cited.keys() and cited["license"] == "Apache-2.0"


def test_each_test_that_the_security_page_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "SECURITY.md").read_text(encoding="utf-8")))
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 8 and [name for name in sorted(named) if f"def {name}(" not in sources] == []


def test_pre_commit_runs_the_tools_of_the_environment() -> None:
    hooks = {hook["id"] for repo in read(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]}
    assert {"ruff", "ruff-format", "mypy"} <= hooks
