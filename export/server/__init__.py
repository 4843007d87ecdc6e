"""A local server that speaks TensorFlow Serving's protocol, for development and tests.

It serves the folder that TensorFlow Serving would serve, through gRPC and REST, with the same
names, status codes and batching parameters, and needs no Docker. It is meant for the
loopback address. Production is the stock TensorFlow Serving image behind a proxy.
"""

from .server import ModelServer as ModelServer
from .server import running_server as running_server
from .shard_router import ShardRouter as ShardRouter
from .shard_router import running_router as running_router

__all__ = ["ModelServer", "ShardRouter", "running_router", "running_server"]
