"""Networks and collections as SavedModels that hold their own search."""

from .interface.search_result import SearchResult as SearchResult
from .loading.loaders import StatusError as StatusError
from .loading.op_check import check_ops as check_ops
from .model.batching_parameters import BatchingParameters as BatchingParameters
from .model.saved_model import SavedSearcher as SavedSearcher
from .model.saved_model import default_batching as default_batching
from .model.saved_model import load_searcher as load_searcher
from .model.saved_model import require_new_version as require_new_version
from .model.saved_model import save_searcher as save_searcher
from .model.searcher import Searcher as Searcher
from .model.verify import VerifyReport as VerifyReport
from .model.verify import verify_version as verify_version

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
