"""Laws of searching with clips: frames in time, of any number, whoever loads the folder."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.export.native_calls import Answers, Call, Refusal, answer, answer_natively
from tests.export.tiny import (
    EMBEDDING_DIM,
    IMAGE_SHAPE,
    TOP_K,
    assert_found,
    make_embeddings,
    make_images,
    make_index,
    make_searcher,
)
from tests.export.tiny_levels import LevelReference, encode_clips, make_clip_network, make_clips
from tfpqn.export import SearchResult, load_searcher, save_searcher
from tfpqn.export.interface.signatures import Signature, TensorInfo
from tfpqn.export.loading.loaders import SavedModelLoader, SessionLoader
from tfpqn.index import CodeIndex, network_layout
from tfpqn.items import CLIPS, IMAGES

LOADERS = ("saved model", "session", "C API")
LENGTHS = (4, 7, 1, 2)
WHOLE_CLIP_LENGTH = 3
CODE_LENGTH = 4

every_loader = pytest.mark.parametrize("loader", LOADERS)


def with_frames(*clips: list[bytes], signature: str = "search") -> Call:
    return Call(signature, {"frames": CLIPS.pack(clips)})


FRAME, OTHER = make_images(2)
NO_FRAME = r"frames: expected at least one frame in each clip. Received none; rows.*\] \[{}\]"
NO_IMAGE = r"frames: expected the bytes of JPEG, PNG.* Received other bytes; rows.*\] \[{}\]"

REFUSED = {
    "no frame": (with_frames([b"", b""]), NO_FRAME.format(0)),
    "no frame in the second clip": (with_frames([FRAME, OTHER], []), NO_FRAME.format(1)),
    "no frame in any clip": (
        Call("search", {"frames": np.zeros((2, 0), object)}),
        NO_FRAME.format("0 1"),
    ),
    "no frame to embed": (with_frames([FRAME], [b""], signature="embed"), NO_FRAME.format(1)),
    "a frame that is no image": (
        with_frames([FRAME, OTHER], [FRAME], [OTHER, b"no image"]),
        NO_IMAGE.format(2),
    ),
    "no image to encode": (with_frames([b"GIF9"], signature="encode"), NO_IMAGE.format(0)),
    "no image by default": (with_frames([b"no"], signature="serving_default"), NO_IMAGE.format(0)),
    "a cut PNG": (with_frames([FRAME, OTHER[: len(OTHER) // 2]]), "frames"),
    "first bytes only": (with_frames([FRAME, b"\xff\xd8\xff"]), "frames"),
}


@pytest.fixture(scope="module")
def network() -> Any:
    return make_clip_network()


@pytest.fixture(scope="module")
def index(network) -> CodeIndex:
    return make_index(network, "string")


@pytest.fixture(scope="module")
def searcher(network, index) -> Any:
    return make_searcher(network, index)


@pytest.fixture(scope="module")
def slow(network) -> LevelReference:
    return LevelReference(network)


def make_whole_clip_network() -> Any:
    """Its backbone sees neighbouring frames together, and fixes their number."""
    backbone = keras.Sequential(
        [
            keras.Input((WHOLE_CLIP_LENGTH, *IMAGE_SHAPE)),
            keras.layers.Rescaling(1 / 127.5, offset=-1.0),
            keras.layers.Conv3D(6, (2, 3, 3), padding="same"),
        ]
    )
    return make_clip_network(backbone=backbone)


@pytest.fixture(scope="module")
def whole_clip_searcher() -> Any:
    return make_searcher(make_whole_clip_network())


class Exported(NamedTuple):
    """A version folder and what its readers answer, by loader."""

    path: Path
    answers: dict[str, Answers]


@pytest.fixture(scope="module")
def exports(network, index, searcher, whole_clip_searcher, tmp_path_factory) -> dict[str, Exported]:
    clips = encode_clips(make_clips(*LENGTHS))
    whole = encode_clips(make_clips(WHOLE_CLIP_LENGTH, WHOLE_CLIP_LENGTH))
    calls = {
        "any length": {
            **{name: with_frames(*clips, signature=name) for name in ("search", "encode", "embed")},
            "search_by_embedding": Call("search_by_embedding", {"embeddings": make_embeddings(3)}),
            "decode": Call("decode", {"codes": index.codes[:5].astype(np.int32)}),
            **{name: call for name, (call, _) in REFUSED.items()},
        },
        "whole clips": {"search": with_frames(*whole)},
    }
    folder = tmp_path_factory.mktemp("models")
    paths = {
        "any length": save_searcher(searcher, folder / "any" / "1"),
        "whole clips": save_searcher(whole_clip_searcher, folder / "whole" / "1"),
    }
    native = answer_natively({str(path): calls[name] for name, path in paths.items()}, folder)
    found = {}
    for name, path in paths.items():
        with SessionLoader(path) as session:
            by_session = answer(session, calls[name])
        by_hand = answer(SavedModelLoader(path), calls[name])
        answers = (by_hand, by_session, native[str(path)])
        found[name] = Exported(path, dict(zip(LOADERS, answers, strict=True)))
    return found


def to_result(outputs: dict[str, np.ndarray]) -> SearchResult:
    """String ids come as UTF-8 bytes."""
    assert not isinstance(outputs, Refusal), outputs
    ids = outputs["ids"]
    return SearchResult(
        np.vectorize(bytes.decode, "O")(ids) if ids.dtype == object else ids, outputs["scores"]
    )


# Answers


@pytest.mark.parametrize("lengths", [(4,), (1,), (5, 5), LENGTHS])
def test_a_clip_finds_what_a_loop_over_its_frames_finds(searcher, slow, index, lengths):
    clips = make_clips(*lengths)
    assert_found(searcher(encode_clips(clips)), slow.search(slow.embed_clips(clips), index))


@pytest.mark.parametrize(
    "settings",
    [{"levels": 2}, {"share_codebooks": True}, {"levels": 2, "share_codebooks": True}],
    ids=str,
)
def test_levels_and_shared_codebooks_are_searched_as_a_loop_searches_them(settings):
    network = make_clip_network(**settings)
    index, slow, clips = make_index(network), LevelReference(network), make_clips(*LENGTHS)
    found = make_searcher(network, index)(encode_clips(clips))
    assert_found(found, slow.search(slow.embed_clips(clips), index))


def test_clips_of_different_lengths_in_one_call_are_answered_as_alone(searcher):
    clips = encode_clips(make_clips(*LENGTHS))
    together = searcher(clips)
    for row, clip in enumerate(clips):
        alone = searcher([clip])
        np.testing.assert_array_equal(alone.ids[0], together.ids[row])
        np.testing.assert_allclose(alone.scores[0], together.scores[row], rtol=0, atol=1e-5)


@pytest.mark.parametrize("places", [(0,), (3,), (0, 0, 0), (1, 2, 2), (0, 1, 2, 3)], ids=str)
def test_empty_strings_are_no_frames_wherever_they_stand(searcher, places):
    (clip,) = encode_clips(make_clips(3))
    padded = list(clip)
    for place in reversed(places):
        padded.insert(place, b"")
    assert_found(searcher([padded]), searcher([clip]))


def test_the_order_of_the_frames_counts(searcher):
    (clip,) = encode_clips(make_clips(4))
    assert not np.allclose(searcher([clip]).scores, searcher([clip[::-1]]).scores, atol=1e-3)


def test_one_frame_is_a_clip_that_stands_still(searcher):
    (clip,) = encode_clips(make_clips(1))
    assert_found(searcher([clip]), searcher([clip * 6]))


def test_a_clip_is_found_by_any_number_of_its_frames():
    network = make_clip_network()
    clips = make_clips(*[6] * 20)
    codes = np.array(network.encode(np.stack(clips)))
    np.testing.assert_array_equal(
        codes, LevelReference(network).encode(LevelReference(network).embed_clips(clips))
    )
    assert len(np.unique(codes, axis=0)) == 20
    index = CodeIndex(network_layout(network), codes, np.arange(20))
    find = make_searcher(network, index, top_k=1)
    # Each frame three times: 18 frames at the same times as the 6 of the index.
    slower = [[frame for frame in clip for _ in range(3)] for clip in encode_clips(clips)]
    same_pace, other_pace = find(encode_clips(clips)), find(slower)
    np.testing.assert_array_equal(other_pace.ids[:, 0], index.ids)
    assert_found(other_pace, same_pace)


def test_a_batch_without_clips_has_an_answer_without_rows(searcher):
    found = searcher([])
    assert found.ids.shape == found.scores.shape == (0, TOP_K)


# The folder


@every_loader
def test_every_reader_answers_clips_as_a_slow_loop(exports, slow, index, loader):
    results = exports["any length"].answers[loader].results
    embeddings = slow.embed_clips(make_clips(*LENGTHS))
    assert_found(to_result(results["search"]), slow.search(embeddings, index))
    by_embedding = to_result(results["search_by_embedding"])
    assert_found(by_embedding, slow.search(make_embeddings(3), index))
    np.testing.assert_allclose(results["embed"]["embeddings"], embeddings, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(results["encode"]["codes"], slow.encode(embeddings))
    decoded = slow.decode(index.codes[:5])
    np.testing.assert_allclose(results["decode"]["embeddings"], decoded, rtol=0, atol=1e-5)


@every_loader
def test_every_reader_sees_frames_of_any_number(exports, loader):
    frames = {"frames": TensorInfo("string", (None, None))}
    embeddings = {"embeddings": TensorInfo("float32", (None, EMBEDDING_DIM))}
    codes = {"codes": TensorInfo("int32", (None, CODE_LENGTH))}
    found = {
        "ids": TensorInfo("string", (None, TOP_K)),
        "scores": TensorInfo("float32", (None, TOP_K)),
    }
    signatures = exports["any length"].answers[loader].signatures
    expected = {
        "serving_default": Signature(frames, found),
        "search": Signature(frames, found),
        "search_by_embedding": Signature(embeddings, found),
        "embed": Signature(frames, embeddings),
        "encode": Signature(frames, codes),
        "decode": Signature(codes, embeddings),
    }
    assert {name: signatures[name] for name in expected} == expected
    for name in ("search_with_exclusions", "search_k"):
        assert signatures[name].inputs["frames"] == frames["frames"]


@every_loader
@pytest.mark.parametrize("name", REFUSED)
def test_every_reader_refuses_bad_frames_by_their_name(exports, loader, name):
    refusal = exports["any length"].answers[loader].results[name]
    assert isinstance(refusal, Refusal), f"not refused: {refusal}"
    assert refusal.code == "INVALID_ARGUMENT"
    assert re.search(REFUSED[name][1], refusal.message, re.DOTALL), refusal.message


def test_the_manifest_says_that_the_items_are_clips(exports, searcher):
    path = exports["any length"].path
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["items"] == "clips"
    assert manifest["image_shape"] == list(IMAGE_SHAPE)
    assert manifest["quantizer"]["kind"] == "TemporalProductQuantization"
    assert manifest["quantizer"]["num_levels"] == 1
    assert manifest["signatures"]["search"]["inputs"] == {
        "frames": {"dtype": "string", "shape": [None, None]}
    }
    loaded = load_searcher(path)
    assert loaded.items is CLIPS
    clips = encode_clips(make_clips(*LENGTHS))
    assert_found(loaded(clips), searcher(clips))


# Backbones of whole clips


@every_loader
def test_a_backbone_of_whole_clips_is_exported_too(exports, whole_clip_searcher, loader):
    clips = make_clips(WHOLE_CLIP_LENGTH, WHOLE_CLIP_LENGTH)
    network = make_whole_clip_network()
    embeddings = np.array(network.embed(np.stack(clips)))
    expected = LevelReference(network).search(embeddings, make_index(network))
    assert_found(whole_clip_searcher(encode_clips(clips)), expected)
    answers = exports["whole clips"].answers[loader]
    assert_found(to_result(answers.results["search"]), expected)


@pytest.mark.parametrize("place", [None, 0, 1, 2])
def test_a_backbone_of_whole_clips_refuses_clips_of_another_length(whole_clip_searcher, place):
    frames = make_images(WHOLE_CLIP_LENGTH)
    clip = frames[:-1]
    if place is not None:
        # No frame, and not a black one.
        clip.insert(place, b"")
    with pytest.raises(tf.errors.InvalidArgumentError, match="frames"):
        whole_clip_searcher([clip])


# What is refused before the graph


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (FRAME, "clips must be a sequence of clips. Received: one bytes; put it into a list"),
        ([FRAME, OTHER], "A clip must be a sequence .* Received: one bytes; put it into a list"),
        ([[FRAME], FRAME], "A clip must be a sequence .* Received: one bytes"),
        (["bird.mp4"], "A clip must be a sequence .* Received: one str"),
        ([[FRAME, None]], "A frame must be the bytes of an image file. Received: NoneType"),
        ([["a.png"]], "A frame must be the bytes of an image file. Received: str"),
        ([[[FRAME]]], "A frame must be the bytes of an image file. Received: list"),
        ([None], "A clip must be a sequence .* Received: .*None"),
        (None, "clips must be a sequence .* Received: .*None"),
    ],
    ids=[
        "bytes",
        "flat",
        "clip and bytes",
        "name of a file",
        "no frame",
        "name of a frame",
        "too deep",
        "no clip",
        "nothing",
    ],
)
def test_what_is_no_clip_is_a_type_error_that_says_what_a_clip_is(searcher, items, message):
    with pytest.raises(TypeError, match=message):
        searcher(items)


def test_images_must_be_bytes_of_their_own(searcher):
    assert IMAGES.pack([FRAME, OTHER]).tolist() == [FRAME, OTHER]
    with pytest.raises(TypeError, match="An image must be the bytes .* Received: list"):
        IMAGES.pack([[FRAME]])
    with pytest.raises(TypeError, match="images must be a sequence .* one bytes; put it into"):
        IMAGES.pack(FRAME)
