"""Slow and obvious numpy: what the package must compute, as loops over the formulas of the paper.

Everything is float64. Codebooks are lists or arrays `[num_subspaces, num_codewords, subvector_dim]`
of unit codewords, embeddings are `[batch, embedding_dim]`.
"""

import itertools

import numpy as np


def split(embeddings, num_subspaces):
    """`[batch, num_subspaces, subvector_dim]`: consecutive slices of each embedding."""
    batch, embedding_dim = np.shape(embeddings)
    subvector_dim = embedding_dim // num_subspaces
    subvectors = np.zeros((batch, num_subspaces, subvector_dim))
    for row in range(batch):
        for m in range(num_subspaces):
            for d in range(subvector_dim):
                subvectors[row, m, d] = embeddings[row][m * subvector_dim + d]
    return subvectors


def merge(subvectors):
    """The inverse of `split`."""
    return np.array([np.concatenate(list(rows)) for rows in subvectors])


def unit(vectors):
    """Each vector along the last axis divided by its length; a zero vector stays zero."""
    vectors = np.array(vectors, np.float64)
    for position in np.ndindex(vectors.shape[:-1]):
        length = np.sqrt(sum(value * value for value in vectors[position]))
        if length > 0:
            vectors[position] /= length
    return vectors


def inner_product(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True))


def intra_normalize(embeddings, num_subspaces):
    return merge(unit(split(embeddings, num_subspaces)))


def squared_distances(subvector, codebook):
    return np.array([np.sum((subvector - word) ** 2) for word in codebook])


def assign_soft(subvector, codebook, alpha):
    """Weights of the codewords: exp(-alpha * ||x - c||^2), brought to sum 1."""
    weights = np.exp(-alpha * squared_distances(subvector, codebook))
    return weights / weights.sum()


def assign_hard(subvector, codebook):
    """Position of the nearest codeword, the first of equals."""
    distances = squared_distances(subvector, codebook)
    return min(range(len(distances)), key=lambda k: (distances[k], k))


def reconstruct_soft(embeddings, codebooks, alpha):
    """Soft reconstruction `[batch, embedding_dim]`: weighted sums of codewords."""
    codebooks = unit(codebooks)
    subvectors = unit(split(embeddings, len(codebooks)))
    reconstructions = np.zeros_like(subvectors)
    for row, m in np.ndindex(subvectors.shape[:2]):
        weights = assign_soft(subvectors[row, m], codebooks[m], alpha)
        for weight, codeword in zip(weights, codebooks[m], strict=True):
            reconstructions[row, m] += weight * codeword
    return merge(reconstructions)


def encode(embeddings, codebooks):
    """Codes `[batch, num_subspaces]`."""
    codebooks = unit(codebooks)
    subvectors = unit(split(embeddings, len(codebooks)))
    codes = np.zeros(subvectors.shape[:2], np.int64)
    for row, m in np.ndindex(codes.shape):
        codes[row, m] = assign_hard(subvectors[row, m], codebooks[m])
    return codes


def decode(codes, codebooks):
    """Reconstructions `[batch, embedding_dim]`: the named codewords, end to end."""
    codebooks = unit(codebooks)
    return np.array([np.concatenate([codebooks[m][k] for m, k in enumerate(row)]) for row in codes])


def lookup_tables(queries, codebooks):
    """`[queries, num_subspaces, num_codewords]`: inner products of unit vectors."""
    codebooks = unit(codebooks)
    subvectors = unit(split(queries, len(codebooks)))
    tables = np.zeros((*subvectors.shape[:2], len(codebooks[0])))
    for q, m, k in np.ndindex(tables.shape):
        tables[q, m, k] = inner_product(subvectors[q, m], codebooks[m][k])
    return tables


def adc_scores(tables, codes):
    """`[queries, items]`: the table entries that a code names, summed over its positions."""
    scores = np.zeros((len(tables), len(codes)))
    for q, i in np.ndindex(scores.shape):
        for position, k in enumerate(codes[i]):
            scores[q, i] += tables[q][position][k]
    return scores


def search(scores, k):
    """`[queries, k]`: positions of the best items, best first; ties in ascending position."""
    rankings = [
        sorted(range(len(row)), key=lambda position: (-row[position], position)) for row in scores
    ]
    return np.array([ranking[:k] for ranking in rankings])


FORMS = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.log(1 + np.exp(x)),
    "hinge": lambda x: max(0.0, x),
}


def asymmetric_triplet_loss(relevance, embeddings, quantized, form, scale=1.0, margin=0.0):
    """`[batch]`: mean over each anchor's valid triplets, 0 for an anchor without one."""
    batch = len(embeddings)
    losses = np.zeros(batch)
    for anchor in range(batch):
        triplets = []
        for positive in range(batch):
            for negative in range(batch):
                if anchor in (positive, negative):
                    continue
                if relevance[anchor][positive] and not relevance[anchor][negative]:
                    near = inner_product(embeddings[anchor], quantized[positive])
                    far = inner_product(embeddings[anchor], quantized[negative])
                    triplets.append(FORMS[form](scale * (far - near) + margin))
        if triplets:
            losses[anchor] = sum(triplets) / len(triplets)
    return losses


def orders_of_ties(scores):
    """Every ranking of the items, best first, that the scores allow."""
    groups = [
        [item for item, score in enumerate(scores) if score == value]
        for value in sorted(set(scores), reverse=True)
    ]
    for orders in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield [item for order in orders for item in order]


def average_precision(scores, relevance, cutoff=None):
    """Average precision of one query, the mean over all orders of its tied items."""
    values = []
    for ranking in orders_of_ties(list(scores)):
        found, precisions = 0, []
        for rank, item in enumerate(ranking[:cutoff], start=1):
            if relevance[item]:
                found += 1
                precisions.append(found / rank)
        values.append(sum(precisions) / found if found else 0.0)
    return sum(values) / len(values)


def recall_at_k(scores, relevance, k):
    """Share of the orders of tied items that hold a relevant item among the first k."""
    hits = [any(relevance[i] for i in ranking[:k]) for ranking in orders_of_ties(list(scores))]
    return sum(hits) / len(hits)
