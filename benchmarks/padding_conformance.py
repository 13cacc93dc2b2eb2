"""Is any text architecture of the installed transformers silently wrong on padded rows, plain and under the guard?

    python benchmarks/padding_conformance.py                     # every text model type: CSV and docs page
    python benchmarks/padding_conformance.py --types bert,gpt2   # some of them, printed only
    python benchmarks/padding_conformance.py --write-measured    # first write the table that the guard reads

Every class is built small and random, and its output on the real tokens of a padded batch is compared with each row run
alone by plain transformers in the same process. Target: no class is silently wrong under the guard.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import transformers
from isolation import Died, run_isolated
from padding_decision import MEASURED_PATH, newest_measured, write_measured
from padding_guarded import Conformance, conform
from padding_measure import Measurement, measure
from padding_page import PAGE, write_page
from padding_rows import Row, csv_path, rows_of, summary_lines, write_csv
from tiny_models import Triple, candidate_triples

TIME_LIMIT_S = 180


def _quiet_measure(triple: Triple) -> Measurement:
    warnings.simplefilter("ignore")
    return measure(triple)


def _quiet_conform(triple: Triple) -> Conformance:
    warnings.simplefilter("ignore")
    return conform(triple)


def measured(triples: list[Triple], jobs: int) -> list[Measurement]:
    """Measure plain transformers on every triple, in the triples' order."""
    found = {
        triple: Measurement(triple=triple, left_out=result.reason) if isinstance(result, Died) else result
        for triple, result in _with_progress(run_isolated(_quiet_measure, triples, jobs, TIME_LIMIT_S), len(triples))
    }
    return [found[triple] for triple in triples]


def conformances(triples: list[Triple], jobs: int) -> list[Conformance]:
    """Run every triple plain and guarded, in the triples' order."""
    found = {
        triple: Conformance(triple, result.reason, {}, unpadded_is_identical=True)
        if isinstance(result, Died)
        else result
        for triple, result in _with_progress(run_isolated(_quiet_conform, triples, jobs, TIME_LIMIT_S), len(triples))
    }
    return [found[triple] for triple in triples]


def _with_progress(results: Iterator[tuple[Any, Any]], total: int) -> Iterator[tuple[Any, Any]]:
    for count, result in enumerate(results, start=1):
        if sys.stderr.isatty() or count % 100 == 0 or count == total:
            end = "\r" if sys.stderr.isatty() and count < total else "\n"
            print(f"{count} of {total}", end=end, file=sys.stderr, flush=True)
        yield result


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--types", help="model types, separated by commas; nothing is written then")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="worker processes")
    parser.add_argument("--write-measured", action="store_true", help=f"first write {MEASURED_PATH.name}")
    return parser.parse_args()


def main() -> int:
    """Run the command line; 1 where a class is silently wrong under the guard."""
    arguments = _arguments()
    chosen = set(arguments.types.split(",")) if arguments.types else None
    triples = [triple for triple in candidate_triples() if chosen is None or triple.model_type in chosen]
    today = dt.datetime.now(tz=dt.timezone.utc).date().isoformat()
    if arguments.write_measured:
        if chosen:
            print("--write-measured needs every type", file=sys.stderr)
            return 2
        write_measured(measured(triples, arguments.jobs), transformers.__version__, today)
    found = conformances(triples, arguments.jobs)
    rows: list[Row] = [row for conformance in found for row in rows_of(conformance)]
    print("\n".join(summary_lines(found, rows)))
    if not chosen:
        write_csv(rows, transformers.__version__)
        print(f"wrote {csv_path(transformers.__version__)}")
        if transformers.__version__ == newest_measured():
            write_page(found, rows, today)
            print(f"wrote {PAGE}")
    return int(any(row.guarded == "silently wrong" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
