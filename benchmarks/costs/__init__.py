"""What safetransformers costs beside plain transformers: `benchmarks/bench.py` measures it and writes the page."""
