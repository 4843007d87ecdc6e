"""Two towers learn from ratings, and find movies by 8 bytes each, in two shapes.

python examples/two_tower.py

The shapes are those of the basic retrieval tutorials of Keras-RS (numbers, a retrieval layer inside
the model) and of TensorFlow Recommenders (strings, an index around the query tower). The ratings
are drawn here, as many as MovieLens 100K has.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

import tfpqn

USERS, MOVIES, RATINGS, FACTORS, DIM = 943, 1682, 100_000, 8, 32


def draw_ratings(rng):
    """Users, movies, and ratings 0 .. 1 that follow from hidden tastes."""
    tastes, traits = rng.normal(size=(USERS, FACTORS)), rng.normal(size=(MOVIES, FACTORS))
    users, movies = rng.integers(USERS, size=RATINGS), rng.integers(MOVIES, size=RATINGS)
    likes = (tastes[users] * traits[movies]).sum(axis=1) + rng.normal(size=RATINGS)
    return users, movies, (1 / (1 + np.exp(-likes))).astype("float32")


@keras.saving.register_keras_serializable()
class RatingModel(keras.Model):
    """Predicts ratings, and finds movies when it does not train."""

    def __init__(self, **options):
        super().__init__(**options)
        self.user_embedding = keras.layers.Embedding(USERS, DIM)
        self.movie_embedding = keras.layers.Embedding(MOVIES, DIM)
        # Before: keras_rs.layers.BruteForceRetrieval(k=10, return_scores=False)
        self.retrieval = tfpqn.retrieval.QuantizedRetrieval(k=10, return_scores=False)

    def build(self, input_shape):
        self.user_embedding.build(input_shape)
        self.movie_embedding.build(input_shape)

    def call(self, users, training=False):
        result = {"users": self.user_embedding(users)}
        if not training and self.retrieval.num_candidates:
            result["movies"] = self.retrieval(result["users"])
        return result

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        movies = self.movie_embedding(y["movie"])
        scores = ops.sum(y_pred["users"] * movies, axis=1)
        return ops.mean(ops.square(y["rating"] - ops.sigmoid(scores)))


class TwoTowers(keras.Model):
    """Tells the movie of each user from those of the other users in the batch."""

    def __init__(self, users, movies):
        super().__init__()
        self.user_tower = keras.Sequential(
            [keras.layers.StringLookup(vocabulary=users), keras.layers.Embedding(USERS + 1, DIM)]
        )
        self.movie_tower = keras.Sequential(
            [keras.layers.StringLookup(vocabulary=movies), keras.layers.Embedding(MOVIES + 1, DIM)]
        )

    def call(self, batch):
        return ops.matmul(
            self.user_tower(batch["user"]), ops.transpose(self.movie_tower(batch["movie"]))
        )

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        own = ops.arange(ops.shape(y_pred)[0])
        return ops.mean(keras.losses.sparse_categorical_crossentropy(own, y_pred, from_logits=True))


def print_recall(name, users, movies, found):
    """The share of the 10 best by brute force that are among the 10 found."""
    exact = np.argsort(-users @ movies.T, axis=1)[:, :10]
    shared = [len(set(one) & set(other)) for one, other in zip(exact, found, strict=True)]
    print(f"{name}: {np.mean(shared) / 10:.2f} of the 10 best, {movies[0].nbytes} bytes -> 8")


def learn_ratings(users, movies, ratings):
    model = RatingModel()
    model.compile(keras.optimizers.Adam(0.01))
    model.fit(users, {"movie": movies, "rating": ratings}, batch_size=1000, epochs=8, verbose=0)
    model.retrieval.update_candidates(model.movie_embedding.embeddings)
    model.save("ratings.keras")

    model = keras.saving.load_model("ratings.keras")
    found = model.predict(np.arange(USERS), verbose=0)["movies"]
    tables = [layer.get_weights()[0] for layer in (model.user_embedding, model.movie_embedding)]
    print_recall("numbers", *tables, found)


def learn_choices(users, movies, ratings):
    names = [f"user {number}" for number in range(USERS)]
    titles = [f"movie {number}" for number in range(MOVIES)]
    liked = np.flatnonzero(ratings > 0.7)
    chosen = {"user": np.array(names)[users[liked]], "movie": np.array(titles)[movies[liked]]}
    model = TwoTowers(names, titles)
    model.compile(keras.optimizers.Adam(0.01))
    batches = tf.data.Dataset.from_tensor_slices(chosen).shuffle(len(liked), seed=0).batch(1000)
    model.fit(batches, epochs=8, shuffle=False, verbose=0)

    # Before: tfrs.layers.factorized_top_k.BruteForce(model.user_tower)
    index = tfpqn.retrieval.QuantizedRetrieval(query_model=model.user_tower)
    all_titles = tf.data.Dataset.from_tensor_slices(titles).batch(100)
    index.index_from_dataset(tf.data.Dataset.zip(all_titles, all_titles.map(model.movie_tower)))
    _, found = index(tf.constant(["user 42"]))
    print("user 42 may like", [title.decode() for title in found[0, :3].numpy()])
    signature = [tf.TensorSpec([None], tf.string, name="user")]
    index.export("models/movies/1", input_signature=signature, verbose=False)

    loaded = tf.saved_model.load("models/movies/1")
    scores, found = loaded.serve(tf.constant(names))
    numbers = [[int(title.split()[1]) for title in row] for row in found.numpy()]
    towers = (model.user_tower, names), (model.movie_tower, titles)
    embeddings = [tower(tf.constant(texts)).numpy() for tower, texts in towers]
    print_recall("strings", *embeddings, numbers)


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    ratings = draw_ratings(np.random.default_rng(0))
    learn_ratings(*ratings)
    learn_choices(*ratings)
