"""Loss form, sharpness and centring on the digits after a few epochs: why the defaults are so.

    python benchmarks/loss_forms.py

Trains a small network for each row with the same seed and data, and writes
`docs/comparisons/loss-forms.json`, from which `python -m research --report` makes the table.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import keras

from tfpqn.datasets import Splits, TrainingBatches, load_protocol
from tfpqn.layers import ProductQuantization
from tfpqn.losses import AsymmetricTripletLoss
from tfpqn.models import ProductQuantizationNetwork, build_backbone
from tfpqn.training import evaluate, fit, initialize_codebooks

OUTPUT = Path(__file__).parent.parent / "docs" / "comparisons" / "loss-forms.json"
FORMS = (("sigmoid", 1.0), ("sigmoid", 4.0), ("softplus", 1.0), ("softplus", 4.0))


def train(splits: Splits, form: str, scale: float, center: bool, epochs: int, seed: int) -> float:
    """mAP of hard codes after training with the given loss."""
    keras.utils.set_random_seed(seed)
    network = ProductQuantizationNetwork(
        build_backbone("conv3", splits.train.image_shape),
        ProductQuantization(num_subspaces=4, num_codewords=64),
        embedding_dim=128,
        center_embeddings=center,
    )
    batches = TrainingBatches(splits.train, 128, seed=seed)
    schedule = keras.optimizers.schedules.CosineDecay(3e-3, epochs * batches.steps_per_epoch)
    network.compile(keras.optimizers.Adam(schedule), AsymmetricTripletLoss(form, scale))
    initialize_codebooks(network, [batch.images for batch in splits.train.batches(256)], seed=seed)
    fit(
        network,
        batches.dataset,
        epochs=epochs,
        steps_per_epoch=batches.steps_per_epoch,
        progress=False,
    )
    return evaluate(network, splits, cutoffs=(), recall_ks=())["mAP"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    splits = load_protocol("digits").load()
    rows = []
    for (form, scale), center in itertools.product(FORMS, (True, False)):
        figures = [
            train(splits, form, scale, center, arguments.epochs, seed)
            for seed in range(arguments.seeds)
        ]
        rows.append({"form": form, "scale": scale, "center_embeddings": center, "mAP": figures})
        print(f"{form} x {scale:g}, centred {center}: {sum(figures) / len(figures):.4f}")
    content = {
        "command": f"python benchmarks/loss_forms.py --epochs {arguments.epochs} "
        f"--seeds {arguments.seeds}",
        "protocol": "digits",
        "epochs": arguments.epochs,
        "rows": rows,
    }
    arguments.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
