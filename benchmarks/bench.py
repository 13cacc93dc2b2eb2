"""Measure what safetransformers costs beside plain transformers, and write docs/benchmarks.md from the rows.

Each section runs in a process of its own. A case that the CSV has of this machine, with these versions and sources, is
not measured again, so a run that was cut off goes on where it stopped.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import Final

RESULTS: Final = Path(__file__).parent / "results" / "costs.csv"
SECTIONS: Final = {
    "cpu": ("imports", "forward", "compiled", "decoding", "attribution", "loads", "conversion"),
    "cuda": ("forward", "compiled", "decoding"),
}


def main() -> int:
    """Run what is asked for; returns 1 where a section failed."""
    args = _arguments()
    if args.here:
        _measure_here(args)
        return 0
    failed = [section for section in args.sections if not _in_process(section, args)]
    if args.page:
        from costs.page import write_page

        write_page(args.csv)
    for section in failed:
        print(f"{section} failed: the error is above. The next run measures what is missing")
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS['cpu'])}; 'none' writes the page only")
    parser.add_argument("--place", choices=list(SECTIONS), default="cpu", help="where models run (default cpu)")
    parser.add_argument("--quick", action="store_true", help="few cases, two rounds: shows that it works")
    parser.add_argument("--again", action="store_true", help="also measure what the CSV has")
    parser.add_argument("--limit-s", type=float, default=1e9, help="start no case after so many seconds")
    parser.add_argument("--csv", type=Path, default=RESULTS, help="where the rows are kept")
    parser.add_argument("--no-page", dest="page", action="store_false", help="leave the page as it is")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # in this process
    parser.add_argument("--deadline-s", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.sections = [name for name in args.sections or SECTIONS[args.place] if name != "none"]
    for section in args.sections:
        if section not in SECTIONS[args.place]:
            parser.error(f"{section} is no section of {args.place}: {', '.join(SECTIONS[args.place])}")
    if args.deadline_s is None:
        args.deadline_s = monotonic() + args.limit_s
    return args


def _in_process(section: str, args: argparse.Namespace) -> bool:
    """Run a section in a process of its own: what it imported, compiled or broke does not reach the others."""
    command = [sys.executable, __file__, section, "--here", "--place", args.place, "--csv", str(args.csv)]
    command += [f"--deadline-s={args.deadline_s}", *(["--quick"] if args.quick else [])]
    return subprocess.run(command + (["--again"] if args.again else []), check=False).returncode == 0


def _measure_here(args: argparse.Namespace) -> None:
    from costs.jobs import Run, measure

    for section in args.sections:
        jobs = importlib.import_module(f"costs.{section}").jobs(Run(args.place, args.quick))
        measure(section, jobs, args.place, args.csv, deadline_s=args.deadline_s, is_again=args.again)


if __name__ == "__main__":
    sys.exit(main())
