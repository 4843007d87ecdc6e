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
    distances = squared_distances(subvector, codebook)
    # Without the shift the weights of a far subvector are all zero.
    weights = np.exp(-alpha * (distances - distances.min()))
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


def choose(subvectors, codebooks):
    """Positions of the nearest codewords `[batch, num_subspaces]`."""
    return np.array(
        [
            [assign_hard(x, book) for x, book in zip(row, codebooks, strict=True)]
            for row in subvectors
        ]
    )


def encode(embeddings, codebooks, *, unit_codewords=True):
    """Codes `[batch, num_subspaces]`."""
    level = unit(codebooks) if unit_codewords else codebooks
    return residual_encode(embeddings, embeddings, [level])


def decode(codes, codebooks):
    """Reconstructions `[batch, embedding_dim]`: the named codewords, end to end."""
    return residual_decode(codes, [unit(codebooks)])


def unit_first(codebooks):
    """Codebooks of several levels as they are used: of unit length in the first level alone."""
    return [unit(codebooks[0]), *np.array(codebooks[1:], np.float64)]


def _left_to_positions(embeddings, soft, levels, soft_codes=False):
    """A function of a row, a position and a code: the subvector that the position quantizes.

    In the first level that of the embedding, or with soft codes of the soft reconstruction; in the
    others what the code's earlier levels leave of
    the soft reconstruction.
    """
    num_subspaces = len(levels[0])
    first, targets = unit(split(embeddings, num_subspaces)), split(soft, num_subspaces)
    first = targets if soft_codes else first

    def left_to(row, position, code):
        t, m = divmod(position, num_subspaces)
        if t == 0:
            return first[row, m]
        return targets[row, m] - sum(levels[s][m][code[s * num_subspaces + m]] for s in range(t))

    return left_to


def residual_encode(embeddings, soft, levels):
    """Codes `[batch, num_levels * num_subspaces]`, level by level, of what is left each time.

    Args:
        embeddings: `[batch, embedding_dim]`.
        soft: Their soft reconstructions by the first level.
        levels: What codes decode to, `[num_levels, num_subspaces, num_codewords, subvector_dim]`.
    """
    left_to = _left_to_positions(embeddings, soft, levels)
    num_subspaces = len(levels[0])
    codes = []
    for row in range(len(embeddings)):
        code = []
        for position in range(len(levels) * num_subspaces):
            t, m = divmod(position, num_subspaces)
            code.append(assign_hard(left_to(row, position, code), levels[t][m]))
        codes.append(code)
    return np.array(codes)


def residual_detours(embeddings, soft, levels, codes, soft_codes):
    """`[batch, code_length]`: how much farther than the nearest codeword the chosen one is."""
    left_to = _left_to_positions(embeddings, soft, levels, soft_codes)
    detours = np.zeros(np.shape(codes))
    for row, position in np.ndindex(detours.shape):
        t, m = divmod(position, len(levels[0]))
        distances = squared_distances(left_to(row, position, codes[row]), levels[t][m])
        detours[row, position] = distances[codes[row][position]] - distances.min()
    return detours


def residual_decode(codes, levels):
    """Reconstructions `[batch, embedding_dim]`: in each subspace the sum of the named codewords."""
    num_subspaces, _, subvector_dim = np.shape(levels[0])
    subvectors = np.zeros((len(codes), num_subspaces, subvector_dim))
    for row, code in enumerate(codes):
        for position, k in enumerate(code):
            t, m = divmod(position, num_subspaces)
            subvectors[row, m] += levels[t][m][k]
    return merge(subvectors)


def residual_lookup_tables(queries, levels):
    """`[queries, num_levels * num_subspaces, num_codewords]`: inner products with all codewords."""
    num_subspaces, num_codewords, _ = np.shape(levels[0])
    subvectors = unit(split(queries, num_subspaces))
    tables = np.zeros((len(queries), len(levels) * num_subspaces, num_codewords))
    for q, position, k in np.ndindex(tables.shape):
        t, m = divmod(position, num_subspaces)
        tables[q, position, k] = inner_product(subvectors[q, m], levels[t][m][k])
    return tables


def average_segments(frames, num_segments):
    """`[num_segments, dim]` of one clip: each frame is cut into as many slivers as segments.

    So there are `num_segments` runs of `num_frames` slivers, and each run is a segment.
    """
    slivers = [frame for frame in np.array(frames, np.float64) for _ in range(num_segments)]
    runs = [slivers[s * len(frames) : (s + 1) * len(frames)] for s in range(num_segments)]
    return np.array([sum(run) / len(run) for run in runs])


def pool_clips(clips, pyramid):
    """`[batch, embedding_dim]`: the segments of every stage, end to end."""
    return np.array(
        [
            np.concatenate([average_segments(clip, stage).ravel() for stage in pyramid])
            for clip in clips
        ]
    )


def adc_scores(tables, codes):
    """`[queries, items]`: the table entries that a code names, summed over its positions."""
    scores = np.zeros((len(tables), len(codes)))
    for q, i in np.ndindex(scores.shape):
        for position, k in enumerate(codes[i]):
            scores[q, i] += tables[q][position][k]
    return scores


FORMS = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.log(1 + np.exp(x)),
    "hinge": lambda x: max(0.0, x),
}


def asymmetric_triplet_loss(
    relevance,
    embeddings,
    quantized,
    form="softplus",
    scale=2.0,
    margin=0.0,
    hardness=0.0,
    weighing=None,
):
    """`[batch]`: weighted mean over each anchor's valid triplets, 0 for an anchor without one.

    The weights are those of the scores, or of the scores `weighing`.
    """
    batch = len(embeddings)
    scores = np.array([[inner_product(a, b) for b in quantized] for a in embeddings])
    weighing = scores if weighing is None else weighing
    losses = np.zeros(batch)
    for anchor in range(batch):
        triplets, weights = [], []
        for positive in range(batch):
            for negative in range(batch):
                if anchor in (positive, negative):
                    continue
                if relevance[anchor][positive] and not relevance[anchor][negative]:
                    difference = scores[anchor, negative] - scores[anchor, positive]
                    triplets.append(FORMS[form](scale * difference + margin))
                    difference = weighing[anchor, negative] - weighing[anchor, positive]
                    weights.append(np.exp(hardness * difference))
        if triplets:
            losses[anchor] = np.average(triplets, weights=weights)
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


def relevant(query_labels, database_labels):
    """`[queries, items]`: whether two items have the same label, or share one of several."""
    if np.ndim(query_labels) == 1:
        return np.equal.outer(query_labels, database_labels)
    return np.array([[(q & d).any() for d in database_labels] for q in query_labels])
