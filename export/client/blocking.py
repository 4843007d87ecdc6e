"""Calls that wait for their answer, in the place of those that are awaited."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

Client = TypeVar("Client")
Own = TypeVar("Own", bound="BlockingCalls")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class BlockingCalls:
    """A client that makes the calls of another one, and waits for them."""

    _client: Any

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _wait_for(self, call: Coroutine[Any, Any, Result]) -> Result:
        raise NotImplementedError


def blocking(
    method: Callable[Concatenate[Client, Arguments], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate[BlockingCalls, Arguments], Result]:
    """A method with the arguments and the docstring of one that is awaited."""

    @functools.wraps(method)
    def call(self: BlockingCalls, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return self._wait_for(method(self._client, *args, **kwargs))

    return call
