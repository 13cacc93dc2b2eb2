"""Several processes that load the same model at the same moment; a script, so that one import serves all of them.

``python loading_processes.py COUNT [SECONDS] [--plain]`` forks COUNT processes, which load ``me/model`` from the hub of
``HF_ENDPOINT`` through safetransformers, each so many seconds after the one before it. A line of JSON for each says how
it went.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import traceback
import warnings
from typing import Any

import safetransformers as st
from safetransformers.hub.load import verified


def load(module: Any) -> dict[str, Any]:
    """What one process finds."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ids = module.AutoTokenizer.from_pretrained("me/model")("hello world")["input_ids"]
        model = module.AutoModel.from_pretrained("me/model")
    told = [str(warning.message).splitlines()[0] for warning in caught if "[ST-" in str(warning.message)]
    return {
        "ids": ids,
        "sum": float(sum(parameter.double().sum() for parameter in model.parameters())),
        "commits": sorted(set(verified.values())),
        "told": told,
        "counts": dict(st.report()),
    }


def main(count: int, apart_s: float, *, plain: bool) -> None:
    _ = st.AutoModel, st.AutoTokenizer
    import torch
    import transformers

    module = transformers if plain else st
    _ = transformers.BertModel, transformers.AutoModel  # imported once, before the fork
    torch.set_num_threads(1)
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            time.sleep(number * apart_s)
            start_s = time.monotonic()
            try:
                found = load(module)
            except Exception:  # noqa: BLE001 - the test tells it
                found = {"failed": traceback.format_exc(limit=-3)}
            found["seconds"] = time.monotonic() - start_s
            os.write(1, (json.dumps(found) + "\n").encode())
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("seconds_apart", type=float, nargs="?", default=0.0)
    parser.add_argument("--plain", action="store_true", help="through transformers instead")
    arguments = parser.parse_args()
    main(arguments.count, arguments.seconds_apart, plain=arguments.plain)
