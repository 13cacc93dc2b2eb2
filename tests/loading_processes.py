"""Several processes that load the same model at the same moment; a script, so that one import serves all of them.

``python loading_processes.py COUNT [SECONDS]`` forks COUNT processes, which load ``me/model`` from the hub of
``HF_ENDPOINT`` through safetransformers, each so many seconds after the one before it. A line of JSON for each says how
it went.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
import warnings
from typing import Any

import safetransformers as st
from safetransformers.hub.load import verified


def load() -> dict[str, Any]:
    """What one process finds."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ids = st.AutoTokenizer.from_pretrained("me/model")("hello world")["input_ids"]
        model = st.AutoModel.from_pretrained("me/model")
    told = [str(warning.message).splitlines()[0] for warning in caught if "[ST-" in str(warning.message)]
    return {
        "ids": ids,
        "sum": float(sum(parameter.double().sum() for parameter in model.parameters())),
        "commits": sorted(set(verified.values())),
        "told": told,
        "counts": dict(st.report()),
    }


def main(count: int, apart_s: float) -> None:
    _ = st.AutoModel, st.AutoTokenizer
    import torch
    import transformers

    _ = transformers.BertModel, transformers.AutoModel  # imported once, before the fork
    torch.set_num_threads(1)
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            time.sleep(number * apart_s)
            start_s = time.monotonic()
            try:
                found = load()
            except Exception:  # noqa: BLE001 - the test tells it
                found = {"failed": traceback.format_exc(limit=-3)}
            found["seconds"] = time.monotonic() - start_s
            os.write(1, (json.dumps(found) + "\n").encode())
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
