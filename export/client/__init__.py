"""A client of served searchers: of TensorFlow Serving and of `tfpqn serve` alike."""

from .client import AsyncSearchClient as AsyncSearchClient
from .client import SearchClient as SearchClient
from .errors import ServingError as ServingError
from .options import TlsOptions as TlsOptions
from .questions import VersionStatus as VersionStatus

__all__ = ["AsyncSearchClient", "SearchClient", "ServingError", "TlsOptions", "VersionStatus"]
