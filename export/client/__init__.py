"""A client of served searchers: of TensorFlow Serving and of `tfpqn serve` alike.

It needs neither TensorFlow nor Keras, and is imported in a fraction of a second.
"""

from ..interface.errors import ServingError as ServingError
from ..interface.version_status import VersionStatus as VersionStatus
from .async_client import AsyncSearchClient as AsyncSearchClient
from .client import SearchClient as SearchClient
from .shards.async_sharded_client import AsyncShardedSearchClient as AsyncShardedSearchClient
from .shards.merging import ShardedSearchResult as ShardedSearchResult
from .shards.sharded_client import ShardedSearchClient as ShardedSearchClient

__all__ = [
    "AsyncSearchClient",
    "AsyncShardedSearchClient",
    "SearchClient",
    "ServingError",
    "ShardedSearchClient",
    "ShardedSearchResult",
    "VersionStatus",
]
