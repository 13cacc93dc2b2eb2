"""A Hugging Face hub on 127.0.0.1 for tests and benchmarks, and the faults that a network can have on the way to it."""

from .access import Access
from .doors import HOST_NAME
from .faults import FAULTS, Fault
from .hub import Hub
from .messages import Reply, Request

__all__ = ["FAULTS", "HOST_NAME", "Access", "Fault", "Hub", "Reply", "Request"]
