"""Other people's test suites, plain and against patched transformers: a test that only the patch breaks is our bug.

Each suite comes from the sdist of the installed version and runs twice, in processes of its own. The patched run has
the tests that passed plain; what fails there, or passes while models put out other numbers, is run once more both
ways, so that chance is not taken for a bug. Tests find tiny models with random weights in a hub cache
(``foreign_hub.py``); the rest of the hub is out of reach, in both runs. Nothing in this folder is collected by pytest.

    python tests/foreign/run.py --suite peft --limit test_auto.py test_decoder_models.py --share 0.1
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import foreign_plugin
from foreign_verdict import Run, Verdict, judge, read

HERE = Path(__file__).resolve().parent
UNREACHABLE = "http://127.0.0.1:9"  # the discard port: refused at once

# Files that cannot say anything about a guard on a CPU without the hub, and why. ``--limit`` runs them all the same.
LEFT_OUT: Mapping[str, Mapping[str, str]] = {
    "peft": {
        "test_common_gpu.py": "needs a GPU",
        "test_custom_models.py": "18,000 tests of hand-made modules: no model of transformers",
        "test_gpu_examples.py": "needs a GPU",
        "test_gptqmodel.py": "needs a GPU",
        "test_quantization.py": "needs a GPU",
        "test_vision_models.py": "needs a data set of the hub",
    },
    "accelerate": {
        "test_cli.py": "needs a network",
        "test_examples.py": "needs the repository's examples",
        "test_fp8.py": "needs a GPU",
        "test_launch.py": "starts processes, which have no patch",
        "test_metrics.py": "starts processes, which have no patch",
        "test_multidevice.py": "needs several GPUs",
        "test_quantization.py": "needs a GPU",
        "test_sagemaker.py": "needs an account",
        "test_tpu.py": "needs a TPU",
    },
    "sentence-transformers": {},
    "transformers": {},
}


@dataclass(frozen=True)
class Options:
    """How much of a suite to run.

    Args:
        files: names of test files; none means all that are not in ``LEFT_OUT``.
        expression: pytest's ``-k``.
        share: of the tests, from 0 to 1; the same ones in every run.
        minutes: for one process; what it has not finished by then does not count.
        test_timeout_s: for one test.
    """

    files: tuple[str, ...]
    expression: str
    share: float
    minutes: float
    test_timeout_s: int


def fetch(suite: str, into: Path) -> Path:
    """Download and unpack the sdist of the installed version.

    Returns:
        The unpacked folder. Sdists leave out ``__init__.py`` of ``tests``, which relative imports need: it is made.

    Raises:
        subprocess.CalledProcessError: where pip cannot get it.
    """
    pinned = f"{suite}=={version(suite)}"
    folder = into / f"{suite.replace('-', '_')}-{version(suite)}"
    if not folder.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(into)]
        subprocess.run([*pip, "--no-binary", suite, pinned], check=True)
        with tarfile.open(into / f"{folder.name}.tar.gz") as archive:
            archive.extractall(into, filter="data")
    (folder / "tests" / "__init__.py").touch()
    return folder


def environment(home: Path) -> dict[str, str]:
    """What every process runs in: this checkout, one thread, no GPU, and of the hub only what is in ``home``."""
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]),
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "HF_ENDPOINT": UNREACHABLE,  # for tests that switch offline mode off
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def make_hub(home: Path) -> None:
    """Fill the hub cache, in a process that reads it too. One that is there already is kept as it is."""
    if not home.exists():
        unfinished = home.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        with home.with_suffix(".log").open("w") as log:
            command = [sys.executable, str(HERE / "foreign_hub.py")]
            subprocess.run(command, env=environment(unfinished), stdout=log, stderr=log, check=True)
        unfinished.rename(home)


def run(folder: Path, home: Path, options: Options, *, patch: bool, only: Collection[str] | None = None) -> Run:
    """Run a suite once.

    Args:
        folder: of the unpacked sdist.
        home: what ``HF_HOME`` is to be.
        options: what to run of it.
        patch: whether to call ``safetransformers.patch()`` first.
        only: node ids; instead of ``options.share``.
    """
    suite = folder.name.rpartition("-")[0].replace("_", "-")
    left_out = [] if options.files else [f"--ignore=tests/{name}" for name in LEFT_OUT[suite]]
    targets = [f"tests/{name}" for name in options.files] or ["tests"]
    command = [sys.executable, "-m", "pytest", "-p", foreign_plugin.__name__, "-p", "no:cacheprovider", "-q"]
    # Not the suite's own addopts, which need a coverage plugin, nor its filters, which make a newer library's
    # deprecations errors.
    command += ["-o", "addopts=", "-o", "filterwarnings=", "--continue-on-collection-errors", "--tb=short"]
    command += [*left_out, *targets]
    command += ["-k", options.expression] if options.expression else []
    with tempfile.TemporaryDirectory() as scratch:
        outcomes = Path(scratch) / "outcomes.jsonl"
        outcomes.touch()
        env = environment(home) | {
            "TMPDIR": scratch,
            foreign_plugin.PATCH: str(int(patch)),
            foreign_plugin.OUTCOMES: str(outcomes),
            foreign_plugin.SHARE: str(options.share),
            foreign_plugin.TEST_TIMEOUT_S: str(options.test_timeout_s),
        }
        if only is not None:
            wanted = Path(scratch) / "only.txt"
            wanted.write_text("\n".join(only))
            env[foreign_plugin.ONLY] = str(wanted)
        log = folder.parent / f"{folder.name}-{'patched' if patch else 'plain'}.log"
        with log.open("a") as output:
            try:
                limit_s = options.minutes * 60
                code = subprocess.call(command, cwd=folder, env=env, stdout=output, stderr=output, timeout=limit_s)
                # Ends of pytest's own: all passed, some failed, a file could not be imported, no tests.
                end = "whole" if code in (0, 1, 2, 5) else "dead"
            except subprocess.TimeoutExpired:
                end = "late"
        return read(outcomes, end)


def compare(suite: str, sources: Path, home: Path, options: Options) -> Verdict:
    """Run one suite both ways, what differs once more, and print what came out.

    Raises:
        RuntimeError: where the plain run breaks down, so that there is nothing to compare with.
    """
    folder = fetch(suite, sources)
    plain = run(folder, home, options, patch=False)
    if plain.end == "dead":
        raise RuntimeError(f"the plain run of {suite} broke down: --folder keeps its output")
    patched = run(folder, home, options, patch=True, only=plain.passed())
    suspects = sorted({*patched.lost(plain.passed()), *patched.differing(plain), *patched.with_act("padding.failed")})
    plain_again = run(folder, home, options, patch=False, only=suspects) if suspects else Run()
    patched_again = run(folder, home, options, patch=True, only=suspects) if suspects else Run()
    verdict = judge(suspects, plain, plain_again, patched_again)
    say(f"\n{suite} {version(suite)}, transformers {version('transformers')}, torch {version('torch')}\n")
    print_table(plain, patched, verdict)
    for file in plain.unimportable:
        say(f"could not be imported, in both runs: {file}: {plain.texts[file][-1]}")
    for name, one in (("plain", plain), ("patched", patched)):
        if one.end == "late":
            say(f"the time of the {name} run was over before it was done: what it left is not compared")
        elif one.end == "dead":
            say(f"the {name} run broke down: --folder keeps its output")
    acts = sum(map(Counter, patched.acts.values()), Counter[str]())
    say(f"the guards did: {', '.join(f'{kind} {n}' for kind, n in sorted(acts.items())) or 'nothing'}")
    for test in verdict.mended:
        say(f"other numbers, since a guard acted: {test}")
    for test in verdict.unsteady:
        say(f"differs from run to run: {test}")
    for test in verdict.changed:
        say(f"OTHER NUMBERS WITHOUT A REASON: {test}")
    for test in verdict.broken:
        text = patched_again.texts.get(test, ["skipped, not run, or passed while the guard itself failed"])
        say("\n".join(["", f"FAILS ONLY WITH THE PATCH: {test}", *text]))
    return verdict


def print_table(plain: Run, patched: Run, verdict: Verdict) -> None:
    """One line a file, in Markdown, and one of all."""
    same = (patched.passed() & set(patched.checksums)).difference(verdict.changed, verdict.mended, verdict.unsteady)
    columns = {
        "skipped": Counter(file_of(test) for test, outcome in plain.outcomes.items() if outcome == "skipped"),
        "failed plain": Counter(file_of(test) for test, outcome in plain.outcomes.items() if outcome == "failed"),
        "passed plain": Counter(map(file_of, plain.passed())),
        "passed patched": Counter(map(file_of, patched.passed())),
        "with a guarded model": Counter(map(file_of, patched.with_act("guarded"))),
        "same numbers": Counter(map(file_of, same)),
        "other numbers": Counter(map(file_of, verdict.changed + verdict.mended)),
        "failing only with the patch": Counter(map(file_of, verdict.broken)),
    }
    say("| file | " + " | ".join(columns) + " |")
    say("|---|" + "--:|" * len(columns))
    for file in sorted(set(map(file_of, plain.outcomes))):
        say(f"| {file} | " + " | ".join(str(counts[file]) for counts in columns.values()) + " |")
    say("| all | " + " | ".join(str(counts.total()) for counts in columns.values()) + " |")


def file_of(test: str) -> str:
    """The file of a node id, without its folder."""
    return test.partition("::")[0].rpartition("/")[2]


def say(line: str) -> None:
    """Print a line at once, for whoever watches a long run."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Read the arguments, run the suites.

    Returns:
        The exit code: 1 where a test fails only with the patch, or has other numbers with it for no reason.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--suite", choices=LEFT_OUT, action="append", help="repeat for several (default: all)")
    parser.add_argument("--limit", nargs="+", default=(), metavar="FILE", help="these test files of the suite only")
    parser.add_argument("-k", dest="expression", default="", help="pytest's -k")
    parser.add_argument("--share", type=float, default=1.0, help="the share of the tests to run, 0 to 1 (default 1)")
    parser.add_argument("--minutes", type=float, default=60.0, help="for one process (default 60)")
    parser.add_argument("--test-timeout", type=int, default=60, metavar="SECONDS", help="for one test (default 60)")
    parser.add_argument("--folder", type=Path, help="keep sdists, models and pytest's output here (default: temporary)")
    given = parser.parse_args()
    options = Options(tuple(given.limit), given.expression, given.share, given.minutes, given.test_timeout)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        home = folder / "home"
        make_hub(home)
        verdicts = [compare(suite, folder, home, options) for suite in given.suite or LEFT_OUT]
    return int(any(verdict.broken or verdict.changed for verdict in verdicts))


if __name__ == "__main__":
    raise SystemExit(main())
