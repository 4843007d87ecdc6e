"""Laws of the op check: what the stock server cannot run is refused by name, all else passes."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import saved_model_pb2

from tfpqn.export.loading.op_check import check_ops, list_ops, serving_ops

FLOATS = [tf.TensorSpec([None, 3], tf.float32, name="x")]


def save(function, folder: Path) -> str:
    """Save one function of a float input [batch, 3] as the serving signature of a SavedModel."""
    module = tf.Module()
    module.serve = tf.function(function, input_signature=FLOATS)
    tf.saved_model.save(module, str(folder), signatures=module.serve.get_concrete_function())
    return str(folder)


def graph_with(*ops: str, function_ops: tuple[str, ...] = ()) -> graph_pb2.GraphDef:
    """Make a graph with one node for each op, and a library function `helper` with others."""
    graph = graph_pb2.GraphDef()
    for op in ops:
        graph.node.add(name=f"my_{op}", op=op)
    if function_ops:
        function = graph.library.function.add()
        function.signature.name = "helper"
        for op in function_ops:
            function.node_def.add(name=f"inner_{op}", op=op)
    return graph


def read(folder: str) -> saved_model_pb2.SavedModel:
    return saved_model_pb2.SavedModel.FromString((Path(folder) / "saved_model.pb").read_bytes())


def test_a_plain_saved_model_is_accepted_as_folder_and_as_proto(tmp_path):
    folder = save(
        lambda x: {"y": tf.nn.top_k(tf.matmul(x, x, transpose_b=True), 1).values}, tmp_path
    )
    check_ops(folder)
    check_ops(Path(folder))
    check_ops(read(folder))


def test_ops_of_graph_and_functions_are_listed_sorted_and_once(tmp_path):
    folder = save(lambda x: {"y": tf.sin(x) + tf.sin(2.0 * x)}, tmp_path)
    ops = list_ops(read(folder))
    assert ops == sorted(set(ops))
    assert {"Sin", "StatefulPartitionedCall", "SaveV2", "RestoreV2"} <= set(ops)
    assert list_ops(graph_with("Sin", "Cos", "Sin", function_ops=("Tan",))) == ["Cos", "Sin", "Tan"]


def test_a_call_of_a_library_function_by_its_name_is_no_op():
    graph = graph_with("Sin", "helper", function_ops=("Cos",))
    assert list_ops(graph) == ["Cos", "Sin"]
    check_ops(graph)


def test_an_op_of_a_custom_library_is_refused_by_name_and_place():
    with pytest.raises(ValueError, match=r"op 'Scann>ScannSearchBatched'.*node 'my_Scann>Scann"):
        check_ops(graph_with("Sin", "Scann>ScannSearchBatched"))
    with pytest.raises(
        ValueError, match=r"op 'Mine', .* in node 'inner_Mine' of function 'helper'"
    ):
        check_ops(graph_with("Sin", function_ops=("Mine",)))


def test_every_foreign_op_is_named_and_a_long_list_is_cut():
    with pytest.raises(ValueError, match=r"'Mine1'.*'Mine2'"):
        check_ops(graph_with("Mine1", "Mine2"))
    with pytest.raises(ValueError, match=r"'Mine9'.*and 20 more"):
        check_ops(graph_with(*(f"Mine{number}" for number in range(30))))


def test_a_graph_that_calls_python_is_refused_by_name(tmp_path):
    def call_python(x):
        return {"y": tf.reshape(tf.py_function(lambda value: value, [x], tf.float32), [-1, 3])}

    with pytest.raises(ValueError, match="op 'EagerPyFunc', which calls Python, in node"):
        check_ops(save(call_python, tmp_path))
    for op in ("PyFunc", "PyFuncStateless"):
        with pytest.raises(ValueError, match=f"op '{op}', which calls Python"):
            check_ops(graph_with(op))


def test_a_must_compile_mark_is_refused_by_function_name(tmp_path):
    @tf.function(jit_compile=True)
    def compiled(x):
        return tf.sin(x)

    with pytest.raises(ValueError, match=r"mark '_XlaMustCompile' on .*compiled"):
        check_ops(save(lambda x: {"y": compiled(x)}, tmp_path))


@pytest.mark.parametrize("mark", ["_XlaMustCompile", "_XlaCompile"])
def test_an_xla_mark_is_refused_on_node_and_on_function_but_not_if_false(mark):
    graph = graph_with("Sin", function_ops=("Cos",))
    owners = {"node 'my_Sin'": graph.node[0], "function 'helper'": graph.library.function[0]}
    for place, owner in owners.items():
        owner.attr[mark].b = False
        check_ops(graph)
        owner.attr[mark].b = True
        with pytest.raises(ValueError, match=f"mark '{mark}' on {place}"):
            check_ops(graph)
        owner.attr[mark].b = False


def test_the_list_holds_serving_ops_and_no_op_of_other_machines_or_devices():
    needed = {"DecodeImage", "DecodeJpeg", "GatherV2", "TopKV2", "While", "Assert", "HashTableV2"}
    assert needed <= serving_ops()
    refused = {"PyFunc", "XlaLaunch", "TPUExecute", "CollectiveReduce", "NcclAllReduce", "RpcCall"}
    assert (
        not (refused | {"WriteFile", "DebugIdentityV2", "_Send", "TestStringOutput"})
        & serving_ops()
    )
    assert len(serving_ops()) > 1000


def test_a_missing_or_torn_saved_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"SavedModel is missing.*saved_model\.pb.*nothing"):
        check_ops(tmp_path / "nothing")
    (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff\xff")
    with pytest.raises(ValueError, match="cannot be parsed"):
        check_ops(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ValueError, match="holds no graph"):
        check_ops(tmp_path)


def test_another_kind_of_argument_is_refused():
    with pytest.raises(TypeError, match="Received: graph of type int"):
        check_ops(3)
