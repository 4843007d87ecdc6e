"""A callback that shows in TensorBoard what a network finds while it learns."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from tfpqn._command_line import printable
from tfpqn.datasets import ImageSet, Splits
from tfpqn.files.atomic import write_file_atomically
from tfpqn.layers.quantizer import require_at_least
from tfpqn.protocols import NetworkLike

from ..encoding import encode_set, sample_queries, spread
from ..loops.callbacks import add_retrieval
from .measures import Labels

# Pixels of the height of a picture in the projector.
HEIGHT = 32


class LogToTensorBoard(keras.callbacks.Callback):
    """Writes for TensorBoard what a network finds after each n-th epoch.

    - Scalars: the mAP of hard codes and of raw embeddings on the same queries each time, which the
      logs of the epoch get too, as `EvaluateRetrieval` adds them; where labels tell nothing, how
      many of the 10 exact nearest are among the first 10 found. The share of codewords in use.
    - Histograms: how many items choose each codeword, for each position of the code.
    - Projector, at the end of training: embeddings with their labels, ids and pictures.

    It needs TensorFlow on every Keras backend. One folder takes one callback.

    Args:
        splits: `query` and `database` are ranked in full; items of `database` are projected.
        log_dir: Folder for TensorBoard's files.
        every: Number of epochs between evaluations; the n-th, 2n-th, .. epoch is evaluated.
        max_queries: Of more queries so many are taken, evenly spread; None for all.
        max_projected: Of more items so many are projected, evenly spread.

    Raises:
        ValueError: A number is below 1, or `log_dir` is a file.
    """

    def __init__(
        self,
        splits: Splits,
        log_dir: str | Path,
        *,
        every: int = 1,
        max_queries: int | None = 1000,
        max_projected: int = 1000,
    ) -> None:
        super().__init__()
        import tensorflow as tf

        require_at_least("every", every, 1)
        require_at_least("max_projected", max_projected, 1)
        self.splits = sample_queries(splits, max_queries)
        self.log_dir = Path(log_dir)
        if self.log_dir.is_file():
            raise ValueError(f"log_dir must be a folder. Received: the file {str(log_dir)!r}")
        self.every = every
        self.max_projected = max_projected
        self._summary = tf.summary
        self._writer: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._writer = self._summary.create_file_writer(str(self.log_dir))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if (epoch + 1) % self.every:
            return
        figures, codes = add_retrieval(self.model, self.splits, {} if logs is None else logs)
        scalars = {"codebook_usage": figures["codebook_usage"]}
        if figures["not_measured"]:
            scalars["neighbours_10_at_10"] = figures["neighbour_recall"]["10@10"]
        else:
            scalars |= {"mAP": figures["mAP"], "raw_mAP": figures["raw_embeddings"]["mAP"]}
        with self._writer.as_default(step=epoch + 1):
            for name, value in scalars.items():
                self._summary.scalar(f"retrieval/{name}", value)
            for position, column in enumerate(codes.T):
                self._summary.histogram(
                    f"codewords/position_{position}",
                    column,
                    buckets=self.model.quantizer.num_codewords,
                )
        self._writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._writer.close()
        items = self.splits.database
        sample = items.subset(spread(len(items), self.max_projected))
        write_projector(self.model, sample, self.log_dir)


def write_projector(network: NetworkLike, items: ImageSet, folder: Path) -> None:
    """Write what TensorBoard's projector shows: embeddings, labels, ids, and pictures.

    Args:
        network: A `ProductQuantizationNetwork`.
        items: Few thousand items at most; those that cannot be read are left out.
        folder: TensorBoard's folder.
    """
    encoded = encode_set(network, items)
    vectors = io.StringIO()
    np.savetxt(vectors, encoded.embeddings, "%.6g", "\t")
    labels = Labels(encoded.labels, items.label_names)
    rows = [
        f"{printable(', '.join(labels.names_of(label)))}\t{printable(str(id_))}"
        for label, id_ in zip(encoded.labels, items.ids[encoded.positions], strict=True)
    ]
    config = [
        'tensor_name: "embeddings"',
        'tensor_path: "embeddings.tsv"',
        'metadata_path: "items.tsv"',
    ]
    files = {
        "embeddings.tsv": vectors.getvalue().encode(),
        "items.tsv": "\n".join(["label\tid", *rows, ""]).encode(),
    }
    if items.items.has_pixels:
        height, width, _ = items.image_shape
        size = max(1, HEIGHT * width // height), HEIGHT
        files["pictures.png"] = _tile(items, encoded.positions, size)
        dims = " ".join(f"single_image_dim: {side}" for side in size)
        config.append(f'sprite {{ image_path: "pictures.png" {dims} }}')
    # Last, as it names the others.
    files["projector_config.pbtxt"] = f"embeddings {{ {' '.join(config)} }}\n".encode()
    for name, content in files.items():
        write_file_atomically(folder / name, content)


def _tile(items: ImageSet, positions: np.ndarray, size: tuple[int, int]) -> bytes:
    """A PNG of all items, of clips the middle frames, in as many rows as columns."""
    columns = math.ceil(math.sqrt(len(positions)))
    width, height = size
    sheet = Image.new("RGB", (columns * width, columns * height))
    number = 0
    for batch in items.batches(items.items_per_batch(256), positions):
        for pixels in batch.images:
            pixels = pixels[len(pixels) // 2] if pixels.ndim == 4 else pixels
            image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
            row, column = divmod(number, columns)
            sheet.paste(image.resize(size), (column * width, row * height))
            number += 1
    content = io.BytesIO()
    sheet.save(content, "PNG")
    return content.getvalue()
