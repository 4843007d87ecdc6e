"""From an .npy file of another model's vectors to a served search.

python examples/vectors.py all.npy cosine
"""

import sys

import numpy as np

import tfpqn
from tfpqn.export.client import SearchClient
from tfpqn.export.server import running_server

file, similarity = sys.argv[1:]
vectors = tfpqn.datasets.open_vectors(file)
(dim,) = vectors.image_shape
quantizer = tfpqn.layers.ProductQuantization(8, 256, similarity=similarity)  # 8 bytes a vector
network = tfpqn.models.ProductQuantizationNetwork(None, quantizer, None, rotation=True)
network.build((None, dim))
tfpqn.training.fit_vectors(network, vectors.held_in_memory(2**28).vectors)
tfpqn.index.build_index(network, vectors, "indexes/vectors", overwrite=True)
index = tfpqn.index.CodeIndex.load("indexes/vectors")
searcher = tfpqn.export.Searcher(network, index, top_k=5)
tfpqn.export.save_searcher(searcher, "models/vectors/1", overwrite=True)

with running_server("models/vectors", port=0, rest_api_port=None) as server:
    with SearchClient(f"localhost:{server.port}", "vectors") as client:
        found = client.search(vectors.read(np.arange(3)).images)
for row, (ids, scores) in enumerate(zip(found.ids, found.scores, strict=True)):
    print("vector", row, "finds", ids, "with scores", scores.round(3))
