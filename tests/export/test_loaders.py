"""Every way into a SavedModel gives the same signatures, results and errors."""

import numpy as np
import pytest
import tensorflow as tf

from tests.export.native_calls import Answers, Call, answer, answer_natively
from tfpqn.export.interface.signatures import Signature, TensorInfo
from tfpqn.export.loading.loaders import SavedModelLoader, SessionLoader
from tfpqn.export.loading.op_check import check_ops

LOADERS = pytest.mark.parametrize("loader", [SavedModelLoader, SessionLoader])
WAYS = pytest.mark.parametrize("way", ["saved model", "session", "C API"])
DTYPES = ("float32", "float16", "int32", "int64", "uint8", "uint16", "bool", "string")
SHAPES = ((), (2,), (2, 3), (2, 1, 3), (1, 2, 0, 2))
IMAGES = {"images": np.array([b"", b"a\0b\0", b"z" * 100, "é".encode()], object)}
SENTENCE = "images: expected at most 100 bytes"
FLOATS = [tf.TensorSpec([3], tf.float32, name="x")]


class Texts(tf.Module):
    """String in; int64, string and float out, with a rule that bytes may break."""

    def __init__(self):
        super().__init__()
        self.scale = tf.Variable(0.5)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="images")])
    def serve(self, images):
        lengths = tf.strings.length(images)
        rule = tf.debugging.Assert(
            tf.reduce_all(lengths <= 100), [SENTENCE, tf.reduce_max(lengths)]
        )
        with tf.control_dependencies([rule]):
            lengths = tf.identity(lengths)
        return {
            "lengths": tf.cast(lengths, tf.int64),
            "texts": tf.strings.join([images, images]),
            "scores": tf.cast(lengths, tf.float32)[:, None] * self.scale,
            "name": tf.constant(b"texts"),
        }


class Compiled(tf.Module):
    """Functions that XLA must compile."""

    @tf.function(jit_compile=True, input_signature=FLOATS)
    def compiled(self, x):
        return tf.sin(x) * 2.0

    @tf.function(input_signature=FLOATS)
    def serve(self, x):
        return {"y": self.compiled(x)}

    @tf.function(input_signature=FLOATS)
    def scoped(self, x):
        with tf.xla.experimental.jit_scope():
            return {"y": tf.sin(x) * 2.0}


def echo_functions():
    """One signature for each dtype and rank that gives back what it gets."""
    return {
        f"{dtype}_{len(shape)}": tf.function(
            lambda x: {"y": tf.identity(x)},
            input_signature=[tf.TensorSpec([None] * len(shape), dtype, name="x")],
        ).get_concrete_function()
        for dtype in DTYPES
        for shape in SHAPES
    }


def random_array(dtype, shape):
    values = np.random.default_rng(len(shape)).integers(0, 200, shape)
    if dtype == "string":
        flat = [b"\0x" * int(value) for value in values.flat]
        return np.array(flat, object).reshape(shape)
    return np.asarray(values % 2 if dtype == "bool" else values, dtype)


ARRAYS = {
    f"{dtype}_{len(shape)}": random_array(dtype, shape) for dtype in DTYPES for shape in SHAPES
}
CALLS = {
    "texts": {
        "texts": Call("serving_default", IMAGES),
        "too long": Call("serving_default", {"images": np.array([b"z" * 101], object)}),
        "wrong name": Call("serving_default", {"image": IMAGES["images"]}),
        "wrong signature": Call("search", IMAGES),
    },
    "echo": {name: Call(name, {"x": array}) for name, array in ARRAYS.items()},
    "compiled": {
        name: Call(name, {"x": np.array([0.0, 1.0, 2.0], "float32")})
        for name in ("serving_default", "scoped")
    },
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    texts, echo, compiled = Texts(), tf.Module(), Compiled()
    echo.functions = echo_functions()
    tf.saved_model.save(texts, str(folder / "texts"), signatures=texts.serve)
    tf.saved_model.save(echo, str(folder / "echo"), signatures=echo.functions)
    functions = {"serving_default": compiled.serve, "scoped": compiled.scoped}
    tf.saved_model.save(compiled, str(folder / "compiled"), signatures=functions)
    return folder


@pytest.fixture(scope="module")
def answers(models) -> dict[str, dict[str, Answers]]:
    """What each way answers, by model; the C API in one process."""
    names = ("texts", "echo", "compiled")
    native = answer_natively([(models / name, CALLS[name]) for name in names], models)
    found = {"C API": dict(zip(names, native, strict=True))}
    for way, loader in (("saved model", SavedModelLoader), ("session", SessionLoader)):
        found[way] = {}
        for name in ("texts", "echo"):
            with loader(models / name) as model:
                found[way][name] = answer(model, CALLS[name])
    return found


def assert_same_arrays(received, expected):
    assert sorted(received) == sorted(expected)
    for name, value in expected.items():
        assert isinstance(received[name], np.ndarray)
        np.testing.assert_array_equal(received[name], value, strict=True)


@WAYS
def test_results_and_signatures_are_those_of_the_function_itself(answers, way):
    signatures, results = answers[way]["texts"]
    expected = {
        "lengths": np.array([0, 4, 100, 2]),
        "texts": np.array([text * 2 for text in IMAGES["images"]], object),
        "scores": np.array([[0.0], [2.0], [50.0], [1.0]], np.float32),
        "name": np.array(b"texts", object),
    }
    assert_same_arrays(results["texts"], expected)
    batch = (None,)
    outputs = {
        "lengths": TensorInfo("int64", batch),
        "name": TensorInfo("string", ()),
        "scores": TensorInfo("float32", (None, 1)),
        "texts": TensorInfo("string", batch),
    }
    assert signatures == {
        "serving_default": Signature({"images": TensorInfo("string", batch)}, outputs)
    }


@WAYS
def test_every_dtype_and_rank_comes_back(answers, way):
    for name, array in ARRAYS.items():
        assert_same_arrays(answers[way]["echo"].results[name], {"y": array})


@WAYS
def test_a_broken_rule_is_an_invalid_argument_with_its_sentence(answers, way):
    refusal = answers[way]["texts"].results["too long"]
    assert refusal.code == "INVALID_ARGUMENT"
    assert SENTENCE in refusal.message and "[101]" in refusal.message


@WAYS
def test_unknown_names_are_refused_with_the_known_ones(answers, way):
    results = answers[way]["texts"].results
    assert "['images']. Received: ['image']" in results["wrong name"].message
    assert "Expected one of ['serving_default']" in results["wrong signature"].message


def test_what_xla_must_compile_is_refused_by_the_c_api_and_by_the_op_check(answers, models):
    for refusal in answers["C API"]["compiled"].results.values():
        assert "XLA compilation disabled" in refusal.message
    with pytest.raises(ValueError, match="mark '_Xla.*'_XlaCompile'"):
        check_ops(models / "compiled")


@LOADERS
def test_lists_are_converted_and_arrays_of_another_dtype_are_refused(models, loader):
    model = loader(models / "echo")
    assert model.run("float32_1", {"x": [1.0, 2.0]})["y"].dtype == np.float32
    assert model.run("string_1", {"x": ["é", b"\0"]})["y"].tolist() == ["é".encode(), b"\0"]
    for dtype in ("float32", "string"):
        with pytest.raises(
            TypeError, match=f"'x' has a wrong dtype. Expected {dtype}. Received: f"
        ):
            model.run(f"{dtype}_1", {"x": np.zeros(2)})


@LOADERS
def test_a_closed_model_cannot_run_and_may_be_closed_again(models, loader):
    with loader(models / "texts") as model:
        model.run("serving_default", IMAGES)
    model.close()
    with pytest.raises(RuntimeError, match="The model is closed"):
        model.run("serving_default", IMAGES)


@LOADERS
def test_a_folder_without_a_saved_model_is_named(tmp_path, loader):
    with pytest.raises(FileNotFoundError, match=f"Received: folder={str(tmp_path)!r}"):
        loader(tmp_path)
