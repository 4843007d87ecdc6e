"""When a client asks again, when it gives up, and what it remembers; without any wire."""

import numpy as np
import pytest

from tfpqn.export.client.conversation import Conversation
from tfpqn.export.client.errors import ServingError
from tfpqn.export.client.options import ClientOptions
from tfpqn.export.client.questions import GetSignatures, Pause, Predict
from tfpqn.export.client.retries import Backoff, Deadline
from tfpqn.export.client.steps import walk
from tfpqn.export.interface.signatures import Signature, TensorInfo

FOUND = {"ids": TensorInfo("int64", (None, 3)), "scores": TensorInfo("float32", (None, 3))}


def by_embedding(width: int) -> dict[str, Signature]:
    infos = {"embeddings": TensorInfo("float32", (None, width))}
    return {"search_by_embedding": Signature(infos, FOUND)}


def make_options(**options) -> ClientOptions:
    defaults = {
        "address": "localhost:1", "model": "birds", "version": None, "version_label": None,
        "timeout": 10.0, "max_attempts": 4, "token": None, "metadata": (), "tls": False,
        "max_message_bytes": 2**20, "rest": False, "chunk_size": 2, "keepalive_seconds": 300.0,
        "allow_insecure_token": False,
    }  # fmt: skip
    return ClientOptions(**{**defaults, **options})


class World:
    """A server, a clock and a sleep that a test sets.

    Attributes:
        now: Seconds on the clock.
        failures: Codes with which the next questions fail; None for an answer.
        duration: Seconds that each question takes.
        questions, timeouts, pauses: What the client did.
    """

    def __init__(self, width: int = 4, **options) -> None:
        self.now, self.duration, self.width = 1000.0, 0.0, width
        self.failures: list[str | None] = []
        self.questions, self.timeouts, self.pauses = [], [], []
        self.draw = 1.0
        backoff = Backoff(draw=lambda: self.draw)
        self.conversation = Conversation(make_options(**options), backoff, lambda: self.now)

    def send(self, question, timeout):
        self.questions.append(question)
        self.timeouts.append(timeout)
        self.now += min(self.duration, timeout)
        if self.duration > timeout:
            raise ServingError("DEADLINE_EXCEEDED", "too late")
        if self.failures and (code := self.failures.pop(0)):
            raise ServingError(code, "told to fail")
        if isinstance(question, GetSignatures):
            return by_embedding(self.width)
        rows = len(question.inputs["embeddings"])
        return {"ids": np.zeros((rows, 3), np.int64), "scores": np.zeros((rows, 3), np.float32)}

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds

    def search(self, rows=1, width=None):
        embeddings = np.zeros((rows, self.width if width is None else width))
        steps = self.conversation.search_by_embedding(embeddings)
        return walk(steps, self.send, self.sleep)

    @property
    def kinds(self):
        return [type(question) for question in self.questions]


def test_signatures_are_asked_for_once():
    world = World()
    world.search()
    world.search()
    assert world.kinds == [GetSignatures, Predict, Predict]


def test_unavailable_is_asked_again_after_pauses_that_double():
    world = World()
    world.failures = [None, "UNAVAILABLE", "UNAVAILABLE", "UNAVAILABLE"]
    world.search()
    assert world.kinds == [GetSignatures, *[Predict] * 4]
    assert world.pauses == [0.2, 0.4, 0.8]


def test_pauses_are_drawn_below_their_bound_and_the_bound_stops_growing():
    halves = Backoff(first=0.1, longest=1.0, draw=lambda: 0.5)
    pauses = [halves.pause_after(attempt) for attempt in range(1, 8)]
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.5, 0.5, 0.5])
    assert halves.pause_after(10**6) == 0.5
    drawn = {Backoff().pause_after(3) for _ in range(20)}
    assert len(drawn) > 1 and all(0 <= pause < 0.8 for pause in drawn)


def test_the_attempts_end():
    world = World()
    world.failures = ["UNAVAILABLE"] * 9
    with pytest.raises(ServingError, match=r"told to fail \(4 attempts\)") as error:
        world.search()
    assert error.value.code == "UNAVAILABLE"
    assert world.kinds == [GetSignatures] * 4


@pytest.mark.parametrize(
    "code", ["INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL", "UNKNOWN"]
)
def test_nothing_but_unavailable_is_asked_again(code):
    world = World()
    world.failures = [None, code]
    with pytest.raises(ServingError) as error:
        world.search()
    assert error.value.code == code
    assert (world.kinds, world.pauses) == ([GetSignatures, Predict], [])


def test_the_deadline_holds_over_all_attempts_and_pauses():
    world = World(timeout=10.0, max_attempts=1000)
    world.duration = 0.5
    world.failures = ["UNAVAILABLE"] * 1000
    with pytest.raises(ServingError, match="told to fail"):
        world.search()
    assert world.now <= 1010
    assert world.timeouts == sorted(world.timeouts, reverse=True)
    assert world.timeouts[0] == 10 and all(timeout > 0 for timeout in world.timeouts)


def test_the_deadline_holds_over_all_parts_of_a_call():
    world = World(timeout=3.0)
    world.duration = 1.25
    with pytest.raises(ServingError) as error:
        world.search(rows=6)
    assert error.value.code == "DEADLINE_EXCEEDED"
    assert world.now == 1003
    assert world.timeouts == [3.0, 1.75, 0.5]


def test_no_question_is_put_when_no_time_is_left():
    world = World(timeout=2.5)
    world.duration = 1.25
    with pytest.raises(ServingError, match="timeout of 2.5 seconds"):
        world.search(rows=3)
    assert world.kinds == [GetSignatures, Predict]


def test_no_pause_goes_beyond_the_deadline():
    world = World(timeout=0.3)
    world.failures = ["UNAVAILABLE"] * 9
    with pytest.raises(ServingError) as error:
        world.search()
    assert error.value.code == "UNAVAILABLE"
    assert world.pauses == [0.2]


def test_many_rows_go_in_parts_and_come_back_in_order():
    world = World()
    steps = world.conversation.search_by_embedding(np.arange(20).reshape(5, 4))
    result = walk(
        steps,
        lambda question, timeout: (
            world.send(question, timeout)
            if isinstance(question, GetSignatures)
            else {
                "ids": question.inputs["embeddings"][:, :3].astype(np.int64),
                "scores": question.inputs["embeddings"][:, :3],
            }
        ),
        world.sleep,
    )
    np.testing.assert_array_equal(result.ids, np.arange(20).reshape(5, 4)[:, :3])


def test_answers_that_change_their_shape_within_a_call_are_not_joined():
    world = World()
    columns = iter([3, 4])

    def send(question, timeout):
        if isinstance(question, GetSignatures):
            return world.send(question, timeout)
        shape = (len(question.inputs["embeddings"]), next(columns))
        return {"ids": np.zeros(shape, np.int64), "scores": np.zeros(shape, np.float32)}

    with pytest.raises(ServingError, match="changed while it was asked") as error:
        walk(world.conversation.search_by_embedding(np.zeros((4, 4))), send, world.sleep)
    assert error.value.code == "ABORTED"


def test_what_does_not_fit_is_refused_before_it_is_sent():
    world = World()
    with pytest.raises(ValueError, match=r"expected the shape \[batch, 4\]. Received: \[1, 5\]"):
        world.search(width=5)
    assert world.kinds == [GetSignatures]


def test_signatures_are_asked_for_again_before_a_refusal():
    world = World()
    world.search()
    world.width = 5
    world.search()
    assert world.kinds == [GetSignatures, Predict, GetSignatures, Predict]


def test_signatures_are_asked_for_again_after_a_refusal_by_the_server():
    world = World()
    world.failures = [None, "INVALID_ARGUMENT"]
    with pytest.raises(ServingError):
        world.search()
    world.search()
    assert world.kinds == [GetSignatures, Predict, GetSignatures, Predict]


def test_nothing_is_searched_without_asking_for_more_than_the_signatures():
    world = World()
    result = world.search(rows=0)
    assert (result.ids.shape, result.ids.dtype) == ((0, 3), np.int64)
    assert (result.scores.shape, result.scores.dtype) == ((0, 3), np.float32)
    assert world.kinds == [GetSignatures]


def test_a_missing_signature_is_named():
    world = World()
    with pytest.raises(ValueError, match=r"'decode'. Received: a model with \['search_by_emb"):
        walk(world.conversation.decode([[0]]), world.send, world.sleep)


def test_a_deadline_counts_from_its_making():
    now = [5.0]
    deadline = Deadline(2.0, lambda: now[0])
    now[0] = 6.5
    assert deadline.remaining() == deadline.require() == 0.5
    now[0] = 7.0
    with pytest.raises(ServingError):
        deadline.require()


def test_steps_say_how_long_to_pause():
    world = World()
    steps = world.conversation.model_status()
    next(steps)
    step = steps.throw(ServingError("UNAVAILABLE", "told to fail"))
    assert step == Pause(0.2)
    steps.close()
