"""The client without its wires: what is asked, in which order, and when again.

Every method is a generator of steps. It yields `Send` and is given the answer (or a `ServingError`
is thrown into it), yields `Pause` and goes on afterwards, and returns the result. `steps.py` walks
through it, waiting or awaiting.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np

from tfpqn.items import ItemSpec, items_of_inputs

from ..interface.bounds import MAX_EXCLUSIONS
from ..interface.packing import pack_ids
from ..interface.search_result import SearchResult
from ..interface.signatures import Signature, TensorInfo, numpy_dtype, prepare_inputs
from .errors import INTERNAL, UNAVAILABLE, ServingError
from .inputs import (
    pack_codes,
    pack_embeddings,
    pack_k,
    pack_lists,
    pack_queries,
    pack_tags,
    split_rows,
)
from .options import ClientOptions
from .questions import (
    Arrays,
    GetSignatures,
    GetStatus,
    Pause,
    Predict,
    Question,
    Send,
    Signatures,
    VersionStatus,
)
from .retries import Backoff, Clock, Deadline

Result = TypeVar("Result")
Steps: TypeAlias = Generator[Send | Pause, Any, Result]
PackInputs: TypeAlias = Callable[[Signature], Arrays]

_SEARCH = ("search", "serving_default")
# JSON writes bytes a third longer, and the answer is not counted: half of what a message may hold.
_SHARE_OF_MESSAGE = 0.5


class Conversation:
    """Asks a server on behalf of a client.

    The model's signatures are learnt at the first call and kept. What does not fit them is
    refused before it is sent, but not before they have been asked for again: the server may have
    gone on to another version.

    Args:
        options: The client's.
        backoff: Pauses between attempts.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        options: ClientOptions,
        backoff: Backoff | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._options = options
        self._backoff = backoff or Backoff()
        self._clock = clock
        self._signatures: Signatures | None = None

    def search(
        self,
        items: Sequence[Any],
        k: int | None,
        exclude_ids: Any,
        allow_tags: Any,
        deny_tags: Any,
    ) -> Steps[SearchResult]:
        name = _choose_signature(k, exclude_ids, allow_tags, deny_tags)

        def pack(signature: Signature) -> Arrays:
            inputs = pack_queries(items, signature)
            (num_rows,) = {len(array) for array in inputs.values()}
            infos = signature.inputs
            if name == "search_k":
                inputs["k"] = pack_k(k)
            elif name == "search_with_exclusions":
                inputs["exclude_ids"] = pack_lists(
                    "exclude_ids", exclude_ids, num_rows, infos["exclude_ids"], MAX_EXCLUSIONS
                )
            elif name == "search_with_filters":
                for tags, lists in (("allow_tags", allow_tags), ("deny_tags", deny_tags)):
                    inputs[tags] = pack_tags(tags, lists, num_rows, infos[tags])
            return inputs

        names = _SEARCH if name == "search" else (name,)
        outputs = yield from self._predict_rows(names, pack)
        return _to_result(outputs)

    def search_by_embedding(self, embeddings: Any) -> Steps[SearchResult]:
        outputs = yield from self._predict_rows(
            ("search_by_embedding",),
            lambda signature: {
                "embeddings": pack_embeddings(embeddings, signature.inputs["embeddings"])
            },
        )
        return _to_result(outputs)

    def search_by_id(self, item_ids: Sequence[Any]) -> Steps[SearchResult]:
        outputs = yield from self._predict_rows(
            ("search_by_id",),
            lambda signature: {
                "item_ids": pack_ids("item_ids", item_ids, signature.inputs["item_ids"].dtype)
            },
        )
        return _to_result(outputs)

    def embed(self, items: Sequence[Any]) -> Steps[np.ndarray]:
        return (yield from self._convert("embed", items, "embeddings"))

    def encode(self, items: Sequence[Any]) -> Steps[np.ndarray]:
        return (yield from self._convert("encode", items, "codes"))

    def decode(self, codes: Any) -> Steps[np.ndarray]:
        outputs = yield from self._predict_rows(
            ("decode",), lambda signature: {"codes": pack_codes(codes, signature.inputs["codes"])}
        )
        return _take_output(outputs, "embeddings")

    def _convert(self, name: str, items: Sequence[Any], output: str) -> Steps[np.ndarray]:
        outputs = yield from self._predict_rows(
            (name,), lambda signature: pack_queries(items, signature)
        )
        return _take_output(outputs, output)

    def predict(self, signature_name: str, inputs: Mapping[str, Any]) -> Steps[Arrays]:
        deadline = self._start()
        question = yield from self._prepare(
            (signature_name,),
            lambda signature: prepare_inputs({signature_name: signature}, signature_name, inputs),
            deadline,
        )
        return (yield from self._ask(question, deadline))

    def model_status(self) -> Steps[list[VersionStatus]]:
        return (yield from self._ask(GetStatus(), self._start()))

    def signatures(self) -> Steps[Signatures]:
        return dict((yield from self._learn(self._start(), afresh=True)))

    def items(self) -> Steps[ItemSpec]:
        signatures = yield from self._learn(self._start())
        name = _find_signature(signatures, _SEARCH)
        return items_of_inputs(signatures[name].inputs)

    def _start(self) -> Deadline:
        return Deadline(self._options.timeout, self._clock)

    def _predict_rows(self, names: Sequence[str], pack: PackInputs) -> Steps[Arrays]:
        """Run the first of these signatures that the model has, in as many parts as it takes."""
        deadline = self._start()
        question = yield from self._prepare(names, pack, deadline)
        max_bytes = int(self._options.max_message_bytes * _SHARE_OF_MESSAGE)
        parts = []
        for inputs in split_rows(question.inputs, self._options.chunk_size, max_bytes):
            parts.append((yield from self._ask(question._replace(inputs=inputs), deadline)))
        return _join(parts) if parts else _answer_to_nothing(question)

    def _prepare(
        self, names: Sequence[str], pack: PackInputs, deadline: Deadline
    ) -> Steps[Predict]:
        known = self._signatures
        signatures = yield from self._learn(deadline)
        try:
            return _make_question(signatures, names, pack)
        except (TypeError, ValueError):
            if known is None:
                raise
        signatures = yield from self._learn(deadline, afresh=True)
        return _make_question(signatures, names, pack)

    def _learn(self, deadline: Deadline, afresh: bool = False) -> Steps[Signatures]:
        signatures = None if afresh else self._signatures
        if signatures is None:
            signatures = yield from self._ask(GetSignatures(), deadline)
            self._signatures = signatures
        return signatures

    def _ask(self, question: Question, deadline: Deadline) -> Steps[Any]:
        """Put the question until it is answered, refused, or there is no time or try left."""
        for attempt in itertools.count(1):
            try:
                return (yield Send(question, deadline.require()))
            except ServingError as error:
                if error.code != UNAVAILABLE:
                    # Perhaps the server has gone on to a version with other signatures.
                    self._signatures = None
                    raise
                pause = self._backoff.pause_after(attempt)
                if attempt >= self._options.max_attempts or pause >= deadline.remaining():
                    raise ServingError(
                        error.code, f"{error.message} ({attempt} attempts)"
                    ) from error
            yield Pause(pause)
        raise RuntimeError("The attempts must end. Received: the end of all numbers")


def _choose_signature(k: Any, exclude_ids: Any, allow_tags: Any, deny_tags: Any) -> str:
    wanted = {
        "search_k": k is not None,
        "search_with_exclusions": exclude_ids is not None,
        "search_with_filters": allow_tags is not None or deny_tags is not None,
    }
    chosen = [name for name, is_wanted in wanted.items() if is_wanted]
    if len(chosen) > 1:
        raise ValueError(
            "A search takes k, or exclude_ids, or allow_tags and deny_tags, one of the three: no "
            f"signature serves them together. Received: arguments of {' and '.join(chosen)}"
        )
    return chosen[0] if chosen else "search"


def _make_question(signatures: Signatures, names: Sequence[str], pack: PackInputs) -> Predict:
    name = _find_signature(signatures, names)
    return Predict(name, signatures[name], pack(signatures[name]))


def _find_signature(signatures: Signatures, names: Sequence[str]) -> str:
    for name in names:
        if name in signatures:
            return name
    raise ValueError(
        f"The served model must have the signature {names[0]!r}. Received: a model with "
        f"{sorted(signatures)}"
    )


def _join(parts: list[Arrays]) -> Arrays:
    if len(parts) == 1:
        return parts[0]
    try:
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    except (KeyError, ValueError) as error:
        raise ServingError(
            "ABORTED", f"the model changed while it was asked; ask again. Received: {error}"
        ) from error


def _answer_to_nothing(question: Predict) -> Arrays:
    """No rows, of the form that rows would have; no server need be asked."""
    num_columns = question.inputs.get("k")
    return {
        name: np.empty(_shape_of_nothing(info, num_columns), numpy_dtype(info.dtype))
        for name, info in question.signature.outputs.items()
    }


def _shape_of_nothing(info: TensorInfo, num_columns: np.ndarray | None) -> list[int]:
    default = 0 if num_columns is None else int(num_columns)
    return [0, *(default if size is None else size for size in (info.shape or (None,))[1:])]


def _take_output(outputs: Arrays, name: str) -> np.ndarray:
    if name not in outputs:
        raise ServingError(
            INTERNAL,
            f"the answer must have the output {name!r}. Received: {sorted(outputs)}",
        )
    return outputs[name]


def _to_result(outputs: Arrays) -> SearchResult:
    for name in ("ids", "scores"):
        _take_output(outputs, name)
    try:
        return SearchResult.from_outputs(outputs)
    except UnicodeDecodeError as error:
        raise ServingError(INTERNAL, f"ids must be UTF-8. Received: {error}") from error
