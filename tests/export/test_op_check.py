"""Laws of the op check: what the stock server cannot run is refused by name, all else passes."""

import pytest
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from tfpqn.export.loading.op_check import check_ops, list_ops, serving_ops


def model_with(*ops, function_ops=()):
    """A model with one node for each op, and a library function `helper` with others."""
    model = SavedModel()
    graph = model.meta_graphs.add().graph_def
    for op in ops:
        graph.node.add(name=f"my_{op}", op=op)
    if function_ops:
        function = graph.library.function.add()
        function.signature.name = "helper"
        for op in function_ops:
            function.node_def.add(name=f"inner_{op}", op=op)
    return model


def test_a_call_of_a_library_function_by_its_name_is_no_op():
    model = model_with("Sin", "Sin", "helper", function_ops=("Cos",))
    assert list_ops(model) == ["Cos", "Sin"]
    check_ops(model)


def test_an_op_of_a_custom_library_is_refused_by_name_and_place():
    with pytest.raises(ValueError, match=r"op 'Scann>ScannSearchBatched'.*node 'my_Scann>Scann"):
        check_ops(model_with("Sin", "Scann>ScannSearchBatched"))
    with pytest.raises(ValueError, match=r"op 'Mine', .* node 'inner_Mine' of function 'helper'"):
        check_ops(model_with("Sin", function_ops=("Mine",)))


def test_every_foreign_op_is_named_and_a_long_list_is_cut():
    with pytest.raises(ValueError, match=r"'Mine1'.*'Mine2'"):
        check_ops(model_with("Mine1", "Mine2"))
    with pytest.raises(ValueError, match=r"'Mine9'.*and 20 more"):
        check_ops(model_with(*(f"Mine{number}" for number in range(30))))


@pytest.mark.parametrize("op", ["EagerPyFunc", "PyFunc", "PyFuncStateless"])
def test_an_op_that_calls_python_is_refused_by_name(op):
    with pytest.raises(ValueError, match=f"op '{op}', which calls Python, in node"):
        check_ops(model_with(op))


@pytest.mark.parametrize("mark", ["_XlaMustCompile", "_XlaCompile"])
def test_an_xla_mark_is_refused_on_node_and_on_function_but_not_if_false(mark):
    model = model_with("Sin", function_ops=("Cos",))
    graph = model.meta_graphs[0].graph_def
    owners = {"node 'my_Sin'": graph.node[0], "function 'helper'": graph.library.function[0]}
    for place, owner in owners.items():
        owner.attr[mark].b = True
        with pytest.raises(ValueError, match=f"mark '{mark}' on {place}"):
            check_ops(model)
        owner.attr[mark].b = False
        check_ops(model)


def test_the_list_holds_serving_ops_and_no_op_of_other_machines_or_devices():
    needed = {"DecodeImage", "DecodeJpeg", "GatherV2", "TopKV2", "While", "Assert", "HashTableV2"}
    assert needed <= serving_ops()
    refused = {"PyFunc", "XlaLaunch", "TPUExecute", "CollectiveReduce", "NcclAllReduce", "RpcCall"}
    others = {"WriteFile", "DebugIdentityV2", "_Send", "TestStringOutput"}
    assert not (refused | others) & serving_ops()
    assert len(serving_ops()) > 1000


def test_a_missing_or_torn_saved_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"SavedModel is missing.*saved_model\.pb.*nothing"):
        check_ops(tmp_path / "nothing")
    for content, message in ((b"\xff\xff\xff", "cannot be parsed"), (b"", "holds no graph")):
        (tmp_path / "saved_model.pb").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            check_ops(tmp_path)
