"""The proof of the export: whoever loads a saved folder, the answers are those of a slow loop.

Three readers: `tf.saved_model.load`, a TensorFlow 1 session, and TensorFlow's C API (the loader of
the C++ server) with XLA compilation disabled, as the stock server has it.
"""

import re
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.export.bad_inputs import BAD_INPUTS
from tests.export.native_calls import Answers, Call, Refusal, answer, answer_natively
from tests.export.tiny import (
    EMBEDDING_DIM,
    NUM_SUBSPACES,
    TOP_K,
    Reference,
    make_codes,
    make_embeddings,
    make_images,
    make_index,
    make_network,
    make_pixels,
    make_searcher,
)
from tfpqn.export import save_searcher
from tfpqn.export.interface.signatures import Signature, TensorInfo
from tfpqn.export.loading.loaders import SavedModelLoader, SessionLoader
from tfpqn.index import CodeIndex

LOADERS = ("saved model", "session", "C API")
ID_TYPES = ("int64", "string")
BATCH_SIZES = (1, 5)
SIGNATURES = ("serving_default", "search", "search_by_embedding", "embed", "encode", "decode")
QUESTIONS = [(name, batch_size) for name in SIGNATURES for batch_size in BATCH_SIZES]
REFUSALS = [
    (loader, name)
    for name, case in BAD_INPUTS.items()
    for loader in LOADERS
    # A session compares shapes before the graph does, and raises ValueError.
    if not (loader == "session" and case.has_wrong_shape)
]

every_loader = pytest.mark.parametrize("loader", LOADERS)
every_id_type = pytest.mark.parametrize("id_type", ID_TYPES)


class Inputs(NamedTuple):
    """What a signature is asked."""

    pixels: np.ndarray
    embeddings: np.ndarray
    codes: np.ndarray


def make_inputs(network: Any, batch_size: int) -> Inputs:
    codes = make_codes(network, batch_size, seed=9).astype(np.int32)
    return Inputs(make_pixels(batch_size), make_embeddings(batch_size), codes)


def make_call(signature: str, inputs: Inputs) -> Call:
    if signature == "search_by_embedding":
        return Call(signature, {"embeddings": inputs.embeddings})
    if signature == "decode":
        return Call(signature, {"codes": inputs.codes})
    return Call(signature, {"images": make_images(len(inputs.pixels))})


def expect(signature: str, inputs: Inputs, slow: Reference, index: CodeIndex) -> dict[str, Any]:
    """What the slow loops answer."""
    if signature == "embed":
        return {"embeddings": slow.embed(inputs.pixels)}
    if signature == "encode":
        return {"codes": slow.encode(inputs.pixels)}
    if signature == "decode":
        return {"embeddings": slow.decode(inputs.codes)}
    by_embedding = signature == "search_by_embedding"
    queries = inputs.embeddings if by_embedding else slow.embed(inputs.pixels)
    return slow.search(queries, index)._asdict()


@pytest.fixture(scope="module")
def network() -> Any:
    return make_network()


@pytest.fixture(scope="module")
def indexes(network) -> dict[str, CodeIndex]:
    return {id_type: make_index(network, id_type) for id_type in ID_TYPES}


@pytest.fixture(scope="module")
def answers(network, indexes, tmp_path_factory) -> dict[tuple[str, str], Answers]:
    """Answers to `QUESTIONS` and `BAD_INPUTS`, by loader and type of ids."""
    folder = tmp_path_factory.mktemp("models")
    paths = {
        id_type: save_searcher(make_searcher(network, index), folder / id_type / "1")
        for id_type, index in indexes.items()
    }
    calls = {(name, size): make_call(name, make_inputs(network, size)) for name, size in QUESTIONS}
    calls |= {name: case.call for name, case in BAD_INPUTS.items()}
    wrong_shapes = {name for name, case in BAD_INPUTS.items() if case.has_wrong_shape}
    fitting = {name: call for name, call in calls.items() if name not in wrong_shapes}
    native = answer_natively({str(path): calls for path in paths.values()}, folder)
    found = {}
    for id_type, path in paths.items():
        found["saved model", id_type] = answer(SavedModelLoader(path), calls)
        with SessionLoader(path) as model:
            found["session", id_type] = answer(model, fitting)
        found["C API", id_type] = native[str(path)]
    return found


@every_loader
@every_id_type
@pytest.mark.parametrize(("signature", "batch_size"), QUESTIONS)
def test_every_reader_gives_the_answers_of_a_slow_loop(
    answers, network, indexes, loader, id_type, signature, batch_size
):
    received = answers[loader, id_type].results[signature, batch_size]
    inputs = make_inputs(network, batch_size)
    expected = expect(signature, inputs, Reference(network), indexes[id_type])
    assert sorted(received) == sorted(expected)
    for name, values in expected.items():
        if name in ("scores", "embeddings"):
            assert received[name].dtype == np.float32
            np.testing.assert_allclose(received[name], values, rtol=0, atol=1e-5)
        else:
            np.testing.assert_array_equal(decode(received[name]), values)


def decode(values: np.ndarray) -> np.ndarray:
    """String ids come as UTF-8 bytes."""
    return np.vectorize(bytes.decode, "O")(values) if values.dtype == object else values


@every_loader
@every_id_type
def test_every_reader_sees_the_same_signatures(answers, id_type, loader):
    images = {"images": TensorInfo("string", (None,))}
    embeddings = {"embeddings": TensorInfo("float32", (None, EMBEDDING_DIM))}
    codes = {"codes": TensorInfo("int32", (None, NUM_SUBSPACES))}
    found = {
        "ids": TensorInfo(id_type, (None, TOP_K)),
        "scores": TensorInfo("float32", (None, TOP_K)),
    }
    item_ids = {"item_ids": TensorInfo(id_type, (None,))}
    excluded = {"exclude_ids": TensorInfo(id_type, (None, None))}
    any_number = {name: info._replace(shape=(None, None)) for name, info in found.items()}
    assert answers[loader, id_type].signatures == {
        "search_by_id": Signature(item_ids, found),
        "search_with_exclusions": Signature({**images, **excluded}, found),
        "search_k": Signature({**images, "k": TensorInfo("int32", ())}, any_number),
        "serving_default": Signature(images, found),
        "search": Signature(images, found),
        "search_by_embedding": Signature(embeddings, found),
        "embed": Signature(images, embeddings),
        "encode": Signature(images, codes),
        "decode": Signature(codes, embeddings),
    }


@pytest.mark.parametrize(("loader", "name"), REFUSALS)
def test_every_reader_refuses_bad_input_by_its_name(answers, loader, name):
    refusal = answers[loader, "int64"].results[name]
    assert isinstance(refusal, Refusal), f"not refused: {refusal}"
    assert refusal.code == "INVALID_ARGUMENT"
    assert re.search(BAD_INPUTS[name].words, refusal.message, re.DOTALL), refusal.message
