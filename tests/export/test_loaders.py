"""Laws of the loaders: every way into a SavedModel gives the same signatures, results and errors.

The C API runs in one process of its own, because switching XLA off cannot be undone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfpqn.export.interface.signatures import Signature, TensorInfo
from tfpqn.export.loading.loaders import SavedModelLoader, SessionLoader, StatusError
from tfpqn.export.loading.native_loader import NativeLoader
from tfpqn.export.loading.op_check import check_ops

LOADERS = pytest.mark.parametrize("loader", [SavedModelLoader, SessionLoader])
DTYPES = ("float32", "float16", "int32", "int64", "uint8", "uint16", "bool", "string")
SHAPES = ((), (2,), (2, 3), (2, 1, 3), (1, 2, 0, 2))
IMAGES = {"images": np.array([b"", b"a\0b\0", b"z" * 100, "é".encode()], object)}
SENTENCE = "images: expected at most 100 bytes"


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


class Echo(tf.Module):
    """One signature for each dtype and rank that gives back what it gets."""

    def signatures(self):
        return {
            f"{dtype}_{len(shape)}": tf.function(
                lambda x: {"y": tf.identity(x)},
                input_signature=[tf.TensorSpec([None] * len(shape), dtype, name="x")],
            ).get_concrete_function()
            for dtype in DTYPES
            for shape in SHAPES
        }


class Compiled(tf.Module):
    """A function that XLA must compile."""

    @tf.function(jit_compile=True, input_signature=[tf.TensorSpec([3], tf.float32, name="x")])
    def compiled(self, x):
        return tf.sin(x) * 2.0

    @tf.function(input_signature=[tf.TensorSpec([3], tf.float32, name="x")])
    def serve(self, x):
        return {"y": self.compiled(x)}

    @tf.function(input_signature=[tf.TensorSpec([3], tf.float32, name="x")])
    def scoped(self, x):
        with tf.xla.experimental.jit_scope():
            return {"y": tf.sin(x) * 2.0}


def random_array(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    values = np.random.default_rng(len(shape)).integers(0, 200, shape)
    if dtype == "string":
        flat = [b"\0x" * int(value) for value in values.flat]
        return np.array(flat, object).reshape(shape)
    return np.asarray(values % 2 if dtype == "bool" else values, dtype)


def to_json(arrays):
    """Describe arrays by name: dtype, shape, values; bytes as hexadecimal digits."""
    return {
        name: ["string", value.shape, [item.hex() for item in value.flat]]
        if value.dtype == object
        else [str(value.dtype), value.shape, value.ravel().tolist()]
        for name, value in arrays.items()
    }


def from_json(arrays):
    return {
        name: np.array([bytes.fromhex(item) for item in flat], object).reshape(shape)
        if dtype == "string"
        else np.array(flat, dtype).reshape(shape)
        for name, (dtype, shape, flat) in arrays.items()
    }


def run_natively(folder, model, signature, inputs, disable_xla=False):
    """Run one signature through the C API; errors come back as a description."""
    try:
        with NativeLoader(f"{folder}/{model}", disable_xla=disable_xla) as loaded:
            outputs = loaded.run(signature, from_json(inputs))
            return {"signatures": loaded.signatures, "outputs": to_json(outputs)}
    except StatusError as error:
        return {"code": error.code, "message": error.message}
    except ValueError as error:
        return {"code": "ValueError", "message": str(error)}


def signatures_from_json(signatures):
    def read(infos):
        return {name: TensorInfo(dtype, tuple(shape)) for name, (dtype, shape) in infos.items()}

    return {name: Signature(read(ins), read(outs)) for name, (ins, outs) in signatures.items()}


def assert_same_arrays(received, expected):
    assert sorted(received) == sorted(expected)
    for name, value in expected.items():
        assert isinstance(received[name], np.ndarray)
        assert received[name].dtype == value.dtype
        np.testing.assert_array_equal(received[name], value, strict=True)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    texts, echo, compiled = Texts(), Echo(), Compiled()
    tf.saved_model.save(texts, str(folder / "texts"), signatures=texts.serve)
    tf.saved_model.save(echo, str(folder / "echo"), signatures=echo.signatures())
    tf.saved_model.save(
        compiled,
        str(folder / "compiled"),
        signatures={"serving_default": compiled.serve, "scoped": compiled.scoped},
    )
    return folder


@pytest.fixture(scope="module")
def native(models) -> dict:
    """Results of the native loader, by the name of the case; all in one process."""
    floats = {"x": np.array([0.0, 1.0, 2.0], "float32")}
    echoes = {
        f"echo_{dtype}_{len(shape)}": (
            "echo",
            f"{dtype}_{len(shape)}",
            {"x": random_array(dtype, shape)},
        )
        for dtype in DTYPES
        for shape in SHAPES
    }
    cases = {
        **echoes,
        "texts": ("texts", "serving_default", IMAGES),
        "too_long": ("texts", "serving_default", {"images": np.array([b"z" * 101], object)}),
        "wrong_name": ("texts", "serving_default", {"image": IMAGES["images"]}),
        "compiled": ("compiled", "serving_default", floats),
        "texts_without_xla": ("texts", "serving_default", IMAGES, True),
        "compiled_without_xla": ("compiled", "serving_default", floats, True),
        "scoped_without_xla": ("compiled", "scoped", floats, True),
    }
    calls = [(model, name, to_json(ins), *xla) for model, name, ins, *xla in cases.values()]
    (models / "calls.json").write_text(json.dumps(calls))
    process = subprocess.run(
        [sys.executable, __file__, str(models)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return dict(zip(cases, json.loads((models / "results.json").read_text()), strict=True))


@pytest.fixture(scope="module")
def expected(models):
    return SavedModelLoader(models / "texts").run("serving_default", IMAGES)


def test_results_are_those_of_the_function_itself(expected):
    module = Texts()
    direct = module.serve(tf.constant(IMAGES["images"]))
    assert_same_arrays(expected, {name: np.asarray(value) for name, value in direct.items()})
    assert expected["lengths"].tolist() == [0, 4, 100, 2]
    assert expected["texts"][1] == b"a\0b\0a\0b\0"
    assert expected["name"].shape == ()


def test_a_session_gives_the_same_results(models, expected):
    with SessionLoader(models / "texts") as model:
        assert_same_arrays(model.run("serving_default", IMAGES), expected)


def test_the_native_loader_gives_the_same_results_with_xla_and_without(native, expected):
    assert_same_arrays(from_json(native["texts"]["outputs"]), expected)
    assert_same_arrays(from_json(native["texts_without_xla"]["outputs"]), expected)


def test_every_way_in_reads_the_same_signatures(models, native):
    batch = (None,)
    signature = Signature(
        {"images": TensorInfo("string", batch)},
        {
            "lengths": TensorInfo("int64", batch),
            "name": TensorInfo("string", ()),
            "scores": TensorInfo("float32", (None, 1)),
            "texts": TensorInfo("string", batch),
        },
    )
    assert SavedModelLoader(models / "texts").signatures == {"serving_default": signature}
    assert SessionLoader(models / "texts").signatures == {"serving_default": signature}
    assert signatures_from_json(native["texts"]["signatures"]) == {"serving_default": signature}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_native_loader_gives_back_every_dtype_and_rank(native, dtype, shape):
    outputs = from_json(native[f"echo_{dtype}_{len(shape)}"]["outputs"])
    assert_same_arrays(outputs, {"y": random_array(dtype, shape)})


@LOADERS
def test_the_other_loaders_give_back_every_dtype_and_rank(models, loader):
    model = loader(models / "echo")
    for dtype in DTYPES:
        for shape in SHAPES:
            array = random_array(dtype, shape)
            assert_same_arrays(model.run(f"{dtype}_{len(shape)}", {"x": array}), {"y": array})


@LOADERS
def test_a_broken_rule_is_an_invalid_argument_with_its_sentence(models, loader):
    with pytest.raises(
        StatusError, match=rf"(?s)INVALID_ARGUMENT: .*{SENTENCE}\] \[101\]"
    ) as caught:
        loader(models / "texts").run("serving_default", {"images": ["z" * 101]})
    assert caught.value.code == "INVALID_ARGUMENT"


def test_a_broken_rule_is_an_invalid_argument_through_the_native_loader(native):
    assert native["too_long"]["code"] == "INVALID_ARGUMENT"
    assert SENTENCE in native["too_long"]["message"]
    assert "[101]" in native["too_long"]["message"]


def test_what_xla_must_compile_runs_until_xla_is_disabled_and_is_refused_by_the_op_check(
    native, models
):
    np.testing.assert_allclose(
        native["compiled"]["outputs"]["y"][2], 2.0 * np.sin([0.0, 1.0, 2.0]), rtol=1e-6
    )
    for case in ("compiled_without_xla", "scoped_without_xla"):
        assert "XLA compilation disabled" in native[case]["message"]
    with pytest.raises(ValueError, match="mark '_Xla.*'_XlaCompile'"):
        check_ops(models / "compiled")


@LOADERS
def test_unknown_names_are_refused_with_the_known_ones(models, loader):
    model = loader(models / "texts")
    with pytest.raises(ValueError, match=r"Expected one of \['serving_default'\].*'search'"):
        model.run("search", IMAGES)
    with pytest.raises(ValueError, match=r"\['images'\]. Received: \['frames', 'images'\]"):
        model.run("serving_default", {**IMAGES, "frames": IMAGES["images"]})


def test_unknown_names_are_refused_by_the_native_loader(native):
    assert native["wrong_name"]["code"] == "ValueError"
    assert "Received: ['image']" in native["wrong_name"]["message"]


@LOADERS
def test_lists_are_converted_and_arrays_of_another_dtype_are_refused(models, loader):
    model = loader(models / "echo")
    assert model.run("float32_1", {"x": [1.0, 2.0]})["y"].dtype == np.float32
    assert model.run("string_1", {"x": ["é", b"\0"]})["y"].tolist() == ["é".encode(), b"\0"]
    with pytest.raises(
        TypeError, match="'x' has a wrong dtype. Expected float32. Received: float64"
    ):
        model.run("float32_1", {"x": np.zeros(2)})
    with pytest.raises(TypeError, match="'x' has a wrong dtype. Expected string"):
        model.run("string_1", {"x": np.zeros(2)})


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


def main(folder: Path) -> None:
    """Run the calls that the fixture `native` has written."""
    calls = json.loads((folder / "calls.json").read_text())
    results = [run_natively(folder, *call) for call in calls]
    (folder / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
