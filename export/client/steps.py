"""Walks through a conversation's steps: the one place where a client waits or awaits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic

from .conversation import Result, Steps
from .errors import ServingError
from .questions import Pause, Question, Send


def walk(
    steps: Steps[Result],
    send: Callable[[Question, float], Any],
    sleep: Callable[[float], None],
) -> Result:
    """Go through the steps of a conversation, blocking.

    Args:
        steps: One of a `Conversation`'s methods, called.
        send: Puts a question once within so many seconds; ServingError if it fails.
        sleep: Does nothing for so many seconds.
    """
    walker = _Walker(steps)
    while (step := walker.next_step()) is not None:
        if isinstance(step, Pause):
            sleep(step.seconds)
            continue
        try:
            walker.answer = send(step.question, step.timeout)
        except ServingError as error:
            walker.failure = error
    return walker.result


async def walk_async(
    steps: Steps[Result],
    send: Callable[[Question, float], Awaitable[Any]],
    sleep: Callable[[float], Awaitable[None]],
) -> Result:
    """Go through the steps of a conversation, awaiting; see `walk`."""
    walker = _Walker(steps)
    while (step := walker.next_step()) is not None:
        if isinstance(step, Pause):
            await sleep(step.seconds)
            continue
        try:
            walker.answer = await send(step.question, step.timeout)
        except ServingError as error:
            walker.failure = error
    return walker.result


class _Walker(Generic[Result]):
    """Hands the answer of one step over to the next."""

    result: Result

    def __init__(self, steps: Steps[Result]) -> None:
        self._steps = steps
        self.answer: Any = None
        self.failure: ServingError | None = None

    def next_step(self) -> Send | Pause | None:
        """The next step; None at the end, when there is a result."""
        answer, failure = self.answer, self.failure
        self.answer = self.failure = None
        try:
            return self._steps.throw(failure) if failure else self._steps.send(answer)
        except StopIteration as end:
            self.result = end.value
            return None
