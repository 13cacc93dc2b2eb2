"""The padding guard: masks inferred by rule, rows run unpadded where no mask can help, and an audit."""
