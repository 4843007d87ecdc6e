"""Networks and collections as SavedModels that hold their own search."""

from .batching_parameters import BatchingParameters as BatchingParameters
from .loaders import StatusError as StatusError
from .op_check import check_ops as check_ops
from .saved_model import SavedSearcher as SavedSearcher
from .saved_model import default_batching as default_batching
from .saved_model import load_searcher as load_searcher
from .saved_model import require_new_version as require_new_version
from .saved_model import save_searcher as save_searcher
from .search_result import SearchResult as SearchResult
from .searcher import Searcher as Searcher
from .verify import VerifyReport as VerifyReport
from .verify import verify_version as verify_version

__all__ = [
    "BatchingParameters",
    "SavedSearcher",
    "SearchResult",
    "Searcher",
    "StatusError",
    "VerifyReport",
    "check_ops",
    "default_batching",
    "load_searcher",
    "require_new_version",
    "save_searcher",
    "verify_version",
]
