"""The few messages of TensorFlow Serving that a client, or an export, writes and reads.

The generated modules of tensorflow-serving-api import all of TensorFlow. A message on the wire is
numbers and values, so the fields that matter here are declared again, with the same numbers. They
stand in a pool of their own: TensorFlow's may be loaded in the same process. Fields that are left
out are passed over when they come.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# In the order of their numbers, which count from 0.
_DATA_TYPES = (
    "INVALID FLOAT DOUBLE INT32 UINT8 INT16 INT8 STRING COMPLEX64 INT64 BOOL QINT8 QUINT8 QINT32 "
    "BFLOAT16 QINT16 QUINT16 UINT16 COMPLEX128 HALF RESOURCE VARIANT UINT32 UINT64"
)
DATA_TYPES = {f"DT_{name}": number for number, name in enumerate(_DATA_TYPES.split())}
# Where a version stands; to protobuf an enumeration is a number.
STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}
# `*` marks repeated fields, `map` those by name.
_MESSAGES = {
    "Dim": "int64 size = 1, string name = 2",
    "TensorShapeProto": "Dim* dim = 2, bool unknown_rank = 3",
    "TensorProto": (
        "DataType dtype = 1, TensorShapeProto tensor_shape = 2, bytes tensor_content = 4, "
        "float* float_val = 5, double* double_val = 6, int32* int_val = 7, bytes* string_val = 8, "
        "int64* int64_val = 10, bool* bool_val = 11, int32* half_val = 13, "
        "uint32* uint32_val = 16, uint64* uint64_val = 17"
    ),
    "TensorInfo": "string name = 1, DataType dtype = 2, TensorShapeProto tensor_shape = 3",
    "SignatureDef": "map TensorInfo inputs = 1, map TensorInfo outputs = 2, string method_name = 3",
    "SignatureDefMap": "map SignatureDef signature_def = 1",
    "Int64Value": "int64 value = 1",
    "StringValue": "string value = 1",
    # Of `session_bundle_config.proto`, which tensorflow-serving-api does not bring.
    "BatchingParameters": (
        "Int64Value max_batch_size = 1, Int64Value batch_timeout_micros = 2, "
        "Int64Value max_enqueued_batches = 3, Int64Value num_batch_threads = 4, "
        "StringValue thread_pool_name = 5, int64* allowed_batch_sizes = 6, "
        "bool pad_variable_length_inputs = 7"
    ),
    "ModelSpec": (
        "string name = 1, Int64Value version = 2, string signature_name = 3, "
        "string version_label = 4"
    ),
    "PredictRequest": "ModelSpec model_spec = 1, map TensorProto inputs = 2",
    "PredictResponse": "map TensorProto outputs = 1, ModelSpec model_spec = 2",
    "Any": "string type_url = 1, bytes value = 2",
    "GetModelMetadataRequest": "ModelSpec model_spec = 1, string* metadata_field = 2",
    "GetModelMetadataResponse": "ModelSpec model_spec = 1, map Any metadata = 2",
    "StatusProto": "int32 error_code = 1, string error_message = 2",
    "ModelVersionStatus": "int64 version = 1, int32 state = 2, StatusProto status = 3",
    "GetModelStatusRequest": "ModelSpec model_spec = 1",
    "GetModelStatusResponse": "ModelVersionStatus* model_version_status = 1",
}
_FIELD = re.compile(r"(map )?(\w+)(\*?) (\w+) = (\d+)")
_KINDS = descriptor_pb2.FieldDescriptorProto


def _make_messages() -> dict[str, Any]:
    """The messages' classes by name."""
    file = descriptor_pb2.FileDescriptorProto(
        name="tfpqn/messages.proto", package="tfpqn", syntax="proto3"
    )
    data_types = file.enum_type.add(name="DataType")
    for name, number in DATA_TYPES.items():
        data_types.value.add(name=name, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for is_map, kind, star, field, number in _FIELD.findall(fields):
            kind = _add_entry(message, field, kind) if is_map else kind
            _add_field(message, kind, field, int(number), bool(is_map or star))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = {name: pool.FindMessageTypeByName(f"tfpqn.{name}") for name in _MESSAGES}
    return {name: message_factory.GetMessageClass(found[name]) for name in found}


def _add_entry(message: Any, field: str, kind: str) -> str:
    """Declare the pairs of a map, as protobuf has it, and tell what they are called."""
    entry = message.nested_type.add(name=f"{field.title().replace('_', '')}Entry")
    entry.options.map_entry = True
    _add_field(entry, "string", "key", 1, False)
    _add_field(entry, kind, "value", 2, False)
    return f"{message.name}.{entry.name}"


def _add_field(message: Any, kind: str, name: str, number: int, is_repeated: bool) -> None:
    label = _KINDS.LABEL_REPEATED if is_repeated else _KINDS.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    if kind == "DataType":
        field.type = _KINDS.TYPE_ENUM
    elif kind.partition(".")[0] in _MESSAGES:
        field.type = _KINDS.TYPE_MESSAGE
    else:
        field.type = _KINDS.Type.Value(f"TYPE_{kind.upper()}")
        return
    field.type_name = f".tfpqn.{kind}"


_CLASS_OF = _make_messages()
BatchingParameters = _CLASS_OF["BatchingParameters"]
GetModelMetadataRequest = _CLASS_OF["GetModelMetadataRequest"]
GetModelMetadataResponse = _CLASS_OF["GetModelMetadataResponse"]
GetModelStatusRequest = _CLASS_OF["GetModelStatusRequest"]
GetModelStatusResponse = _CLASS_OF["GetModelStatusResponse"]
PredictRequest = _CLASS_OF["PredictRequest"]
PredictResponse = _CLASS_OF["PredictResponse"]
SignatureDefMap = _CLASS_OF["SignatureDefMap"]
