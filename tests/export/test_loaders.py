"""Every way into a SavedModel gives the same signatures, results and errors."""

import numpy as np
import pytest
import tensorflow as tf

from tests.export.native_calls import Call, answer, answer_natively
from tfpqn.export.interface.signatures import Signature, TensorInfo
from tfpqn.export.loading.loaders import SavedModelLoader, SessionLoader
from tfpqn.export.loading.op_check import check_ops

LOADERS = pytest.mark.parametrize("loader", [SavedModelLoader, SessionLoader])
# TensorFlow is loaded once more for the C API.
NATIVE = pytest.param("C API", marks=pytest.mark.slow)
WAYS = pytest.mark.parametrize("way", ["saved model", "session", NATIVE])
DTYPES = ("float32", "float16", "int32", "int64", "uint8", "uint16", "bool", "string")
SHAPES = ((), (2,), (64, 48), (2, 1, 3), (1, 2, 0, 2))


def random_array(dtype, shape):
    values = np.random.default_rng(len(shape)).integers(0, 200, shape)
    if dtype == "string":
        flat = [b"\0x" * int(value) for value in values.flat]
        return np.array(flat, object).reshape(shape)
    # In another order than that of tensors.
    return np.asarray(values % 2 if dtype == "bool" else values, dtype, order="F")


# Every dtype, and every rank.
ARRAYS = {
    f"{dtype}_{len(shape)}": random_array(dtype, shape)
    for dtype in DTYPES
    for shape in (SHAPES if dtype in ("float32", "string") else SHAPES[2:3])
}
XLA = ("compiled", "scoped")


def make_function(name):
    """One that gives back what it gets, as a signature of the array's dtype and rank."""
    array = ARRAYS[name]
    dtype = tf.string if array.dtype == object else array.dtype
    spec = tf.TensorSpec([None] * array.ndim, dtype, name="x")
    function = tf.function(lambda x: {"y": tf.identity(x)}, input_signature=[spec])
    return function.get_concrete_function()


class Compiled(tf.Module):
    """Functions that XLA must compile."""

    @tf.function(jit_compile=True, input_signature=[tf.TensorSpec([3], tf.float32, name="x")])
    def compiled(self, x):
        return {"y": tf.sin(x) * 2.0}

    @tf.function(input_signature=[tf.TensorSpec([3], tf.float32, name="x")])
    def scoped(self, x):
        with tf.xla.experimental.jit_scope():
            return {"y": tf.sin(x) * 2.0}


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    folder, module = tmp_path_factory.mktemp("echo"), tf.Module()
    module.functions = {name: make_function(name) for name in ARRAYS}
    tf.saved_model.save(module, str(folder), signatures=module.functions)
    return folder


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder, module = tmp_path_factory.mktemp("compiled"), Compiled()
    functions = {name: getattr(module, name) for name in XLA}
    tf.saved_model.save(module, str(folder), signatures=functions)
    return folder


@pytest.fixture(scope="module")
def native_answers(echo, compiled):
    """What the C API answers to each dtype and rank, and to what XLA must compile."""
    xla_calls = {name: Call(name, {"x": np.zeros(3, np.float32)}) for name in XLA}
    return answer_natively([(echo, make_calls()), (compiled, xla_calls)], echo)


def make_calls():
    return {name: Call(name, {"x": array}) for name, array in ARRAYS.items()}


@WAYS
def test_every_dtype_and_rank_comes_back_under_its_signature(request, echo, way):
    if way == "C API":
        signatures, results = request.getfixturevalue("native_answers")[0]
    else:
        with {"saved model": SavedModelLoader, "session": SessionLoader}[way](echo) as model:
            signatures, results = answer(model, make_calls())
    assert signatures.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        info = TensorInfo(name.split("_")[0], (None,) * array.ndim)
        assert signatures[name] == Signature({"x": info}, {"y": info})
        assert isinstance(results[name]["y"], np.ndarray)
        np.testing.assert_array_equal(results[name]["y"], array, strict=True)


def test_what_xla_must_compile_is_refused_by_the_op_check(compiled):
    with pytest.raises(ValueError, match="mark '_Xla.*'_XlaCompile'"):
        check_ops(compiled)


@pytest.mark.slow
def test_what_xla_must_compile_is_refused_by_the_c_api(native_answers):
    for refusal in native_answers[1].results.values():
        assert "XLA compilation disabled" in refusal.message


@LOADERS
def test_what_is_no_input_of_a_signature_is_refused(echo, loader):
    with loader(echo) as model:
        assert model.run("float32_1", {"x": [1.0, 2.0]})["y"].dtype == np.float32
        assert model.run("string_1", {"x": ["é", b"\0"]})["y"].tolist() == ["é".encode(), b"\0"]
        for dtype in ("float32", "string"):
            words = f"'x' has a wrong dtype. Expected {dtype}. Received: f"
            with pytest.raises(TypeError, match=words):
                model.run(f"{dtype}_1", {"x": np.zeros(2)})
        with pytest.raises(ValueError, match=r"\['x'\]. Received: \['images'\]"):
            model.run("string_1", {"images": ["é"]})
        with pytest.raises(ValueError, match="signature is unknown. Expected one of .*'bool_2'"):
            model.run("search", {"x": ["é"]})
    model.close()
    with pytest.raises(RuntimeError, match="The model is closed"):
        model.run("string_1", {"x": ["é"]})


@LOADERS
def test_a_folder_without_a_saved_model_is_named(tmp_path, loader):
    with pytest.raises(FileNotFoundError, match=f"Received: folder={str(tmp_path)!r}"):
        loader(tmp_path)
