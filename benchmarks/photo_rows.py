"""The rows of the tables on phone photos: sets, lengths of codes, and settings of each row."""

from __future__ import annotations

from typing import Any

Settings = dict[str, Any]
# Set -> its file and the columns of its labels.
SETS = {
    "groceries": ("grocery", ("label",)),
    "groceries, coarse": ("grocery", ("coarse",)),
    "groceries, fine and coarse": ("grocery", ("label", "coarse")),
    "clothing": ("clothing", ("label",)),
}
BITS, FEW_BITS, SHORT_BITS = (12, 16, 24, 36, 48, 64), (24, 64), (12, 16)
PQN, RPQN = "PQN", "RPQN"
TRAINED: dict[str, Settings] = {PQN: {}, RPQN: {"model": "rpqn"}}
# 4 codebooks of 4,096 codewords each are too many for so few photos.
SIZES: dict[tuple[str, int], Settings] = {
    (PQN, 48): {"num_subspaces": 8},
    (RPQN, 48): {"num_subspaces": 4},
}
# Short codes with more codebooks than by default, of few codewords.
FOUR_CODEBOOKS = "PQN, 4 codebooks"
# Trained on the features of a tuned backbone.
TUNED_PQN = "PQN, fine-tuned"
OWN_CODES = (*TRAINED, TUNED_PQN, FOUR_CODEBOOKS)
# What FAISS codes: embeddings that are trained without a quantizer, and features.
EMBEDDINGS: dict[str, Settings] = {
    "embedding": {"loss_sides": "raw"},
    "classifier": {"loss_sides": "raw", "loss_weight": 0.0},
}
FEATURES = ("features", "whitened features")
CODERS = ("PQ", "OPQ")
RAW = "raw features"
# OPQ turns vectors into so many coordinates, and codes them.
OPQ_DIM = 128
MIRRORED = "mirror images too"
# One setting changed, at 24 bits.
CHANGES: dict[str, Settings] = {
    "codes nearest to embeddings": {"soft_codes": False},
    "no classifier": {"classification_weight": 0.0},
    "no triplets": {"loss_weight": 0.0},
    "hardness 1": {"loss_hardness": 1.0},
    "images of 160 x 160 pixels": {"image_size": 160},
    "images of 288 x 288 pixels": {"image_size": 288},
    MIRRORED: {"mirror": True},
}
# Of 64 bits, without labels.
UNLABELLED: dict[str, Settings] = {
    "codebooks alone": {"similarity": "cosine"},
    "codebooks alone, not whitened": {"similarity": "cosine", "whiten": False},
}
# These take long. The first starts from the run of PQN, and PQN of all lengths from it.
TUNED, TUNED_BITS = "last half of the backbone fine-tuned", 24
TUNING: Settings = {"bits": TUNED_BITS, "epochs": 12, "fine_tune": 0.5}
# Of 64 bits; small images bound the time.
VIEWS = "two views of each photo"
TWO_VIEWS: Settings = {
    **{"model": "rpqn", "bits": 64, "num_subspaces": 4, "soft_codes": False, "image_size": 160},
    **{"epochs": 4, "fine_tune": 0.5, "views": 2, "min_area": 0.2, "color_jitter": 0.5},
}
