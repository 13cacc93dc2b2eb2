"""How many requests a job makes of the hub, by its nodes: measured for 1 to 8, with a cache for each.

A node is a launch of ranks on this machine with a cache of its own; all load a tokenizer and a model at once. Plain
transformers does the same beside it. Target: the guarded count is that of one process, for each node.

    python benchmarks/hub_nodes.py [--ranks 4]
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measuring import add_row

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
hub_server: Any = importlib.import_module("hub_server")
tests: Any = importlib.import_module("test_hub_ranks")


def requests_of(nodes: int, ranks: int, *options: str) -> tuple[int, int]:
    """Requests of a job, and how many of them asked for the bytes of a file."""
    with hub_server.Hub() as hub, tempfile.TemporaryDirectory() as folder:
        hub.add(tests.REPO, tests.small_files(Path(folder) / "repository"))
        env = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "LOCAL_RANK": "0", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(ROOT / "tests" / "hub" / "loading_processes.py"), str(ranks), *options]
        running = [
            subprocess.Popen(
                command,
                env={**os.environ, **env, "HF_HUB_CACHE": f"{folder}/{node}", "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for node in range(nodes)
        ]
        found = [json.loads(line) for process in running for line in process.communicate()[0].splitlines()]
        assert len(found) == nodes * ranks
        assert not [one for one in found if "failed" in one]
        return sum(map(tests.is_of_the_repository, hub.requests)), sum(tests.files_sent(hub).values())


def main() -> None:
    """Measure, print and add rows to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=4, help="of each node")
    ranks = parser.parse_args().ranks
    for nodes in (1, 2, 4, 8):
        row = {"nodes": str(nodes), "ranks": str(ranks)}
        for kind, options in (("plain", ["--plain"]), ("guarded", [])):
            requests, downloads = requests_of(nodes, ranks, *options)
            print(f"{nodes} nodes of {ranks} ranks, {kind}: {requests} requests, {downloads} downloads of files")
            row |= {f"{kind}_requests": str(requests), f"{kind}_downloads": str(downloads)}
        add_row("hub_nodes", row)


if __name__ == "__main__":
    main()
