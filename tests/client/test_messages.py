"""Our short descriptions of the messages say the same on the wire as TensorFlow Serving's."""

import pytest
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from tfpqn.export.interface import messages

THEIRS = {
    "PredictRequest": predict_pb2,
    "PredictResponse": predict_pb2,
    "GetModelMetadataRequest": get_model_metadata_pb2,
    "GetModelMetadataResponse": get_model_metadata_pb2,
    "GetModelStatusRequest": get_model_status_pb2,
    "GetModelStatusResponse": get_model_status_pb2,
    "SignatureDefMap": get_model_metadata_pb2,
}


def assert_fields_alike(ours, theirs, seen):
    """Each field of ours, and of the messages in it, has number, kind and label of theirs."""
    if ours.name in seen:
        return
    seen.add(ours.name)
    for field in ours.fields:
        other = theirs.fields_by_name[field.name]
        kinds = {field.type, other.type}
        # An enumeration is a number.
        assert len(kinds) == 1 or kinds == {field.TYPE_INT32, field.TYPE_ENUM}
        assert (field.number, field.is_repeated) == (other.number, other.is_repeated)
        if field.message_type is not None:
            assert_fields_alike(field.message_type, other.message_type, seen)


@pytest.mark.parametrize("name", THEIRS)
def test_fields_have_the_numbers_and_kinds_of_tensorflow_servings(name):
    theirs = getattr(THEIRS[name], name).DESCRIPTOR
    assert_fields_alike(getattr(messages, name).DESCRIPTOR, theirs, set())


def test_enumerations_have_the_numbers_of_tensorflows():
    data_types = types_pb2.DataType.items()
    assert dict(data_types).items() >= messages.DATA_TYPES.items()
    states = get_model_status_pb2.ModelVersionStatus.State.items()
    assert {number: name for name, number in states} == messages.STATES
