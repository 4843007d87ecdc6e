"""A local server that speaks TensorFlow Serving's protocol, for development and tests.

It serves the folder that TensorFlow Serving would serve, through gRPC and REST, with the same
names, status codes, batching parameters and metrics, and needs no Docker. Production is the stock
TensorFlow Serving image: it is faster, and it has seen more of the world.
"""

from .server import ModelServer as ModelServer
from .server import running_server as running_server

__all__ = ["ModelServer", "running_server"]
