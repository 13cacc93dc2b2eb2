"""Explanations of errors: a table of rules, and readers of exceptions and of pasted tracebacks."""
