"""Run a TensorFlow class on inputs from a file; a script for an environment that need not have this package.

    python run_tensorflow.py FOLDER CLASS INPUTS.npz OUTPUTS.npz

Nothing but the weights and the configuration of the folder is read: transformers loads it, without remote code.
"""

from __future__ import annotations

import sys

import numpy as np


def main(folder: str, name: str, given: str, result: str) -> None:
    """Load, run once in evaluation mode, and write the outputs that are floating point numbers."""
    import transformers

    model = getattr(transformers, name).from_pretrained(folder, local_files_only=True)
    with np.load(given) as inputs:
        outputs = model(**dict(inputs), training=False)
    tensors = {key: value for key, value in outputs.items() if hasattr(value, "numpy")}
    np.savez(result, **{key: value.numpy() for key, value in tensors.items() if value.dtype.is_floating})


if __name__ == "__main__":
    main(*sys.argv[1:])
