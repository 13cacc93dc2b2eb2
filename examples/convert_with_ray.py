"""Convert many TensorFlow saves on the machines of a Ray cluster; run it again and it does what is missing.

    pip install 'safetransformers[ray,tf]'
    python convert_with_ray.py /shared/saves/* /shared/converted     # --address auto: on a cluster that runs

Saves and results lie on a file system that all machines see. A task that is lost with its machine is started again, and
so can the whole job be: a result appears when it is whole, and is recognised by the digests of its save.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import ray

from safetransformers.tf.many import Done, convert_one, destinations


def convert_all(sources: Sequence[Path], folder: Path, *, cpus_each: int = 1) -> Iterator[Done]:
    """Each save as a task of its own; how it ended, as it ends."""
    task = ray.remote(num_cpus=cpus_each, max_retries=3)(convert_one)
    folder.mkdir(parents=True, exist_ok=True)
    waiting = [task.remote(source, target) for source, target in destinations(sources, folder).items()]
    while waiting:
        ended, waiting = ray.wait(waiting)
        yield from ray.get(ended)


def main() -> int:
    """The command line; the exit code is 1 where a save could not be converted."""
    parser = argparse.ArgumentParser(description="Convert TensorFlow saves on a Ray cluster.")
    parser.add_argument("sources", nargs="+", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--address", help="of a running cluster, or auto; else one on this machine")
    arguments = parser.parse_args()
    ray.init(address=arguments.address)
    failed = 0
    for done in convert_all([source.resolve() for source in arguments.sources], arguments.folder.resolve()):
        failed += done.error is not None
        print(f"{done.source.name}: {done.error or done.report}")
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
