"""What a client asks a server, whichever way it goes, and what comes back."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np

from ..interface.signatures import Signature

Arrays: TypeAlias = dict[str, np.ndarray]
Signatures: TypeAlias = dict[str, Signature]


class Predict(NamedTuple):
    """Run a signature on arrays that have its names and dtypes; answered by `Arrays`."""

    signature_name: str
    signature: Signature
    inputs: Arrays


class GetSignatures(NamedTuple):
    """Which signatures the model has; answered by `Signatures`."""


class GetStatus(NamedTuple):
    """Which versions the server knows; answered by a list of `VersionStatus`."""


Question: TypeAlias = Predict | GetSignatures | GetStatus


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
    error_code: str
    error_message: str


class Send(NamedTuple):
    """A step of a conversation: put the question once, within so many seconds."""

    question: Question
    timeout: float


class Pause(NamedTuple):
    """A step of a conversation: do nothing for so many seconds."""

    seconds: float
