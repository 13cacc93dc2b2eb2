"""The doctor on versions, the GPU and its driver, and the environment: of this machine, and of many others."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from safetransformers import compat, policies
from safetransformers.doctor import accelerator, environment, versions
from safetransformers.doctor.accelerator import Device, runs_on
from safetransformers.doctor.finding import Finding, is_fine

SECRET = "hunter2"


def worst(findings: Iterable[Finding], *, start: str = "") -> list[tuple[str, str]]:
    """Level and fact of all that is not ok, each with a reason and a remedy."""
    found = [one for one in findings if one.level != "ok" and one.what.startswith(start)]
    assert all(one.why and one.do for one in found), found
    return [(one.level, one.what) for one in found]


# Versions


def installed(**others: str | None) -> versions.Facts:
    facts = versions.look()
    named = {name.replace("_", "-"): value for name, value in others.items()}
    return replace(facts, installed={**facts.installed, **named})


def test_the_packages_that_the_suite_runs_on_are_fine() -> None:
    facts = versions.look()
    assert is_fine(versions.findings(facts)) and facts.python.startswith(f"{sys.version_info[0]}.")
    assert {name: range_ for name, range_ in facts.ranges.items() if name in compat.SUPPORTED} == compat.SUPPORTED
    assert facts.installed["transformers"] == version("transformers")
    assert all(facts.ranges[name] for name in ("huggingface-hub", "tokenizers", "packaging")), facts.ranges


@pytest.mark.parametrize(
    ("package", "old"), [("transformers", "4.40.0"), ("torch", "2.1.0+cu118"), ("huggingface_hub", "0.20.0")]
)
def test_a_package_outside_its_range_is_a_problem_with_the_line_that_mends_it(package: str, old: str) -> None:
    name = package.replace("_", "-")
    facts = installed(**{package: old})
    (finding,) = [one for one in versions.findings(facts) if one.level == "problem"]
    assert finding.what == f"{name} {old}" and finding.do == f"pip install '{name}{facts.ranges[name]}'"


def test_a_package_that_is_missing_is_a_problem_and_an_optional_one_a_note() -> None:
    assert ("problem", "wrapt is not installed") in worst(versions.findings(installed(wrapt=None)))
    found = worst(versions.findings(installed(sentencepiece=None)))
    assert ("note", "sentencepiece is not installed") in found and all(level == "note" for level, _ in found)


def test_a_development_version_counts_as_its_release_and_a_strange_one_is_a_note() -> None:
    assert is_fine(versions.findings(installed(torch="2.14.0.dev20270101+cu130")))
    assert ("note", "torch unknown") in worst(versions.findings(installed(torch="unknown")))


def test_an_old_python_is_a_problem_and_one_that_nobody_tested_a_note() -> None:
    facts = replace(versions.look(), python_range=">=3.10", newest_python="3.13")
    assert worst(versions.findings(replace(facts, python="3.9.1")), start="Python") == [("problem", "Python 3.9.1")]
    assert worst(versions.findings(replace(facts, python="3.14.0")), start="Python") == [("note", "Python 3.14.0")]
    assert worst(versions.findings(replace(facts, python="3.10.0")), start="Python") == []


# The accelerator

H100 = Device("NVIDIA H100", (9, 0), 70 * 2**30, 80 * 2**30)
GOOD = accelerator.Facts(
    "2.13.0", cuda="12.8", driver="570.1", driver_cuda=(12, 8), devices=(H100,), arches=("sm_80", "sm_90")
)


def test_this_machine_is_looked_at_without_an_error() -> None:
    import torch

    facts = accelerator.look()
    assert facts.torch == torch.__version__ and len(facts.devices) == torch.cuda.device_count()
    assert list(accelerator.findings(facts))


def test_a_gpu_that_fits_is_fine_with_its_free_memory() -> None:
    found = list(accelerator.findings(GOOD))
    assert [one.level for one in found] == ["ok", "ok"] and "70.0 of 80.0 GiB free" in found[1].what


@pytest.mark.parametrize(
    ("facts", "level", "word"),
    [
        (replace(GOOD, devices=(), driver_cuda=(11, 4)), "problem", "runs CUDA up to 11.4"),
        (replace(GOOD, devices=(), driver_cuda=(11, 4), failure="driver too old"), "problem", "runs CUDA up to 11.4"),
        (replace(GOOD, devices=(), failure="CUDA unknown error"), "problem", "CUDA unknown error"),
        (replace(GOOD, devices=()), "problem", "finds no GPU"),
        (replace(GOOD, devices=(), visible=""), "note", "hides every GPU"),
        (replace(GOOD, devices=(), visible="-1"), "note", "hides every GPU"),
        (replace(GOOD, devices=(), driver="", driver_cuda=None), "note", "no GPU driver"),
        (replace(GOOD, devices=(), cuda=""), "problem", "cannot use its GPU"),
        (replace(GOOD, devices=(replace(H100, capability=(12, 0)),)), "problem", "sm_120"),
        (replace(GOOD, devices=(replace(H100, free_bytes=2**30),)), "note", "another process"),
        (accelerator.Facts("", failure="libcudart.so.12: cannot open"), "problem", "libcudart"),
    ],
)
def test_what_does_not_fit_is_said_with_its_cause(facts: accelerator.Facts, level: str, word: str) -> None:
    (finding,) = [one for one in accelerator.findings(facts, "linux") if one.level != "ok"]
    assert finding.level == level and word in finding.why and finding.do


@pytest.mark.parametrize(
    "facts",
    [accelerator.Facts("2.13.0+cpu"), accelerator.Facts("2.13.0", has_mps=True), replace(GOOD, driver_cuda=(12, 2))],
)
def test_a_machine_without_a_gpu_and_a_driver_of_the_same_major_version_are_fine(facts: accelerator.Facts) -> None:
    assert all(one.level == "ok" for one in accelerator.findings(facts, "linux"))


def test_the_kernels_of_the_installed_torch_run_on_the_gpus_that_they_are_named_after() -> None:
    assert runs_on((8, 9), ("sm_80",)) and runs_on((9, 0), ("sm_90a",)) and runs_on((12, 0), ("compute_90",))
    assert not runs_on((7, 5), ("sm_80", "compute_80")) and not runs_on((10, 0), ("sm_90", "gfx90a"))


def test_the_driver_is_read_from_the_kernels_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "version"
    file.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.133.20  Release Build\nGCC 12\n")
    monkeypatch.setattr(accelerator, "_DRIVER_FILE", file)
    assert accelerator.look().driver == "570.133.20"
    file.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n")
    assert accelerator.look().driver == "535.104.05"


# The environment


def looked(variables: dict[str, str], **facts: object) -> list[Finding]:
    return list(environment.findings(replace(environment.Facts(variables), **facts)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("variables", "level", "word"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "note", "HF_HUB_OFFLINE=1"),
        ({"HF_HUB_OFFLINE": "2"}, "problem", "counts as off"),
        ({"TRANSFORMERS_OFFLINE": "YES"}, "note", "no request"),
        ({"TRANSFORMERS_CACHE": "/x"}, "problem", "does not read it"),
        ({"HF_ENDPOINT": "https://mirror.example"}, "note", "mirror.example"),
        ({"HF_ENDPOINT": "mirror.example"}, "problem", "no address"),
        ({"HF_ENDPOINT": "https://mirror.example\n"}, "problem", "no address"),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, "note", "proxy.example:3128"),
        ({"HTTPS_PROXY": "http://a", "https_proxy": "http://b"}, "problem", "differ"),
        ({"REQUESTS_CA_BUNDLE": "/etc/ca.pem"}, "note", "does not read it"),
        ({"SAFETRANSFORMERS_PADING": "exact"}, "problem", "SAFETRANSFORMERS_PADDING, if that is meant"),
        ({"SAFETRANSFORMERS_PADDING": "exakt"}, "problem", "'exakt'"),
        ({"SAFETRANSFORMERS_STRICT": "perhaps"}, "problem", "neither true nor false"),
        ({"CUDA_LAUNCH_BLOCKING": "1"}, "note", "slow"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}, "note", "cudaMallocAsync"),
        ({"CUDA_VISIBLE_DEVICES": ""}, "note", "hides every GPU"),
        ({"USE_TORCH": "0"}, "note", "not installed"),
    ],
)
def test_a_variable_that_bites_is_said(variables: dict[str, str], level: str, word: str) -> None:
    (finding,) = looked(variables)
    assert finding.level == level and word in str(finding) and finding.why and finding.do


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"HF_HUB_OFFLINE": "0", "CUDA_LAUNCH_BLOCKING": "0", "CUDA_VISIBLE_DEVICES": "0,1", "USE_TORCH": "1"},
        {"SSL_CERT_FILE": "/etc/ca.pem", "REQUESTS_CA_BUNDLE": "/etc/ca.pem"},
        {"SAFETRANSFORMERS_REPORT": "r.json", "SAFETRANSFORMERS_STRICT": "1", "SAFETRANSFORMERS_PADDING": "exact"},
    ],
)
def test_variables_that_do_what_they_say_are_fine(variables: dict[str, str]) -> None:
    assert all(one.level == "ok" for one in looked(variables))


def test_every_field_of_the_policy_is_known() -> None:
    for name, (values, _) in policies.CHOICES.items():
        assert is_fine(looked({f"SAFETRANSFORMERS_{name.upper()}": values[-1]})), name


def test_no_secret_is_shown() -> None:
    address = f"http://user:{SECRET}@proxy.example:3128"
    names = (
        "HTTP_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "HF_ENDPOINT",
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "SSL_CERT_FILE",
    )
    facts = environment.Facts(dict.fromkeys(names, address), missing=("SSL_CERT_FILE",))
    found = list(environment.findings(facts))
    assert len(found) >= 5 and SECRET not in "".join(map(str, found)) + repr(facts)
    bare = looked({"HTTPS_PROXY": f"user:{SECRET}@proxy.example:3128"})
    assert SECRET not in str(bare[0]) and "proxy.example:3128" in bare[0].what


def test_old_caches_are_a_note_where_transformers_still_reads_them() -> None:
    assert [one.level for one in looked({"TRANSFORMERS_CACHE": "/x"}, transformers="4.57.6")] == ["note"]


def test_a_folder_that_cannot_be_written_and_a_file_that_is_gone_are_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file" / "home"))  # below a file no folder can be made
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "new" / "hub"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    facts = environment.look()
    assert facts.unwritable == ("HF_HOME",) and "SSL_CERT_FILE" in facts.missing
    found = [one.what for one in environment.findings(facts) if one.level == "problem"]
    assert "HF_HOME cannot be written" in found and "SSL_CERT_FILE is set" in found
