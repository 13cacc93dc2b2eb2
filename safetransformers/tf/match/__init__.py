"""Which weight of a save goes to which key of which torch class."""
