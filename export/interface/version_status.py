"""Where a version of a served model stands."""

from __future__ import annotations

from typing import NamedTuple


class VersionStatus(NamedTuple):
    """One version of a model as the server sees it.

    Attributes:
        version: Its number.
        state: "START", "LOADING", "AVAILABLE", "UNLOADING" or "END".
        error_code: "OK", or the name of the status with which loading failed.
        error_message: What failed.
    """

    version: int
    state: str
    error_code: str = "OK"
    error_message: str = ""
