"""Embeddings of a JAX function, coded and searched: arrays of any framework become NumPy arrays.

python examples/jax_encoder.py
"""

import jax
import numpy as np

import tfpqn

weights = jax.random.normal(jax.random.key(0), (64, 32))
encode = jax.jit(lambda images: jax.nn.gelu(images.reshape(len(images), -1) @ weights))

splits = tfpqn.datasets.load_protocol("digits").load()
database = np.asarray(encode(splits.database.images / 16.0))  # of torch: tensor.numpy(force=True)
queries = np.asarray(encode(splits.query.images[:3] / 16.0))

quantizer = tfpqn.layers.ProductQuantization(4, 64, similarity="cosine")  # 3 bytes a vector
network = tfpqn.models.ProductQuantizationNetwork(None, quantizer, None)
network.build((None, 32))
tfpqn.training.fit_vectors(network, database)
vectors = tfpqn.datasets.VectorSet(database)
tfpqn.index.build_index(network, vectors, "indexes/jax", overwrite=True)
index = tfpqn.index.CodeIndex.load("indexes/jax")
searcher = tfpqn.export.Searcher(network, index, top_k=5)
tfpqn.export.save_searcher(searcher, "models/jax/1", overwrite=True)

ids, _ = tfpqn.export.load_searcher("models/jax/1")(queries)
for label, found in zip(splits.query.labels[:3], splits.database.labels[ids], strict=True):
    print("a", label, "finds", found)
