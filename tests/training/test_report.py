"""Laws of reports: figures show what slow NumPy counts, and the page names nothing outside it."""

import json
import re
import sys
from html.parser import HTMLParser
from io import BytesIO
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from tests import reference
from tests.training.tiny import (
    make_clip_splits,
    make_images,
    make_multi_hot_splits,
    make_network,
    make_network_with,
    make_splits,
)
from tfpqn.datasets import ImageArrays, Splits, VectorSet
from tfpqn.layers import ProductQuantization, TemporalProductQuantization
from tfpqn.metrics import rank_items
from tfpqn.models import ProductQuantizationNetwork
from tfpqn.training import Run, RunConfig, report_run
from tfpqn.training.evaluation import count_codewords
from tfpqn.training.reports import figures, gallery, measures, page
from tfpqn.training.reports.findings import NUM_FOUND, RECALLS, Findings, find, precision_at_recalls

CONFIG = RunConfig.plain(bits=16, num_subspaces=4, embedding_dim=16, epochs=2, batch_size=16)
HISTORY = [
    {"epoch": 1, "loss": 2.0, "mAP": 0.4, "raw_mAP": 0.5, "seconds": 1.0},
    {"epoch": 2, "loss": 1.0, "mAP": 0.6, "raw_mAP": 0.7, "seconds": 1.0},
]
# Each would be obeyed somewhere: by a browser, by matplotlib, or by a terminal.
HOSTILE = (
    "<script>alert(1)</script>",
    "\" onerror='alert(1)' src=\"http://example.com/x.png",
    "_$\\frac{1}$ {{x}} $title",
    "猫 \x1b]0;\u202e &amp; " + 300 * "a",
)


def start(folder, config=CONFIG):
    run = Run.start(folder, config)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "history.json").write_text(json.dumps(HISTORY))
    return run


def report_on(folder, network, splits, **options):
    return report_run(start(folder), network, splits, **options).read_text(encoding="utf-8")


class Reader(HTMLParser):
    """The tags of a page, with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def network():
    return make_network()


class Case(NamedTuple):
    """A sample of a data set, and what was found in it."""

    splits: Splits
    findings: Findings


@pytest.fixture(scope="module", params=[make_splits, make_multi_hot_splits])
def case(network, request):
    splits = request.param(40, 8)
    return Case(splits, find(network, splits))


@pytest.fixture(scope="module")
def hostile(network, tmp_path_factory):
    """The page of a run whose labels and ids are of anyone's making."""
    parts = [
        ImageArrays(
            images.images,
            images.labels,
            [f"{HOSTILE[row % 4]}{row}" for row in range(len(images))],
            label_names=HOSTILE,
        )
        for images in (make_images(40, seed=1), make_images(8, seed=2))
    ]
    splits = Splits(parts[0], parts[0], parts[1])
    return report_on(tmp_path_factory.mktemp("run") / HOSTILE[0][:7], network, splits)


def test_the_page_names_nothing_outside_itself(hostile):
    reader = Reader(hostile)
    sources = [tag["src"] for _, tag in reader.tags if "src" in tag]
    assert len(sources) > 8 and all(source.startswith("data:image/") for source in sources)
    names = {tag for tag, _ in reader.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "form", "a", "base"}
    assert not re.search(r"@import|url\(", hostile)
    (policy,) = (tag["content"] for _, tag in reader.tags if "http-equiv" in tag)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert len(hostile) < 4_000_000


def test_names_of_anyones_making_are_shown_and_never_obeyed(hostile):
    reader = Reader(hostile)
    known = {"alt", "class", "content", "charset", "height", "http-equiv", "lang", "name"}
    known |= {"scope", "src", "title", "width"}
    assert {name for _, tag in reader.tags for name in tag} <= known
    text = "".join(reader.words)
    assert text.count(HOSTILE[0]) > 2 and HOSTILE[1] in text and HOSTILE[2] in text
    assert "猫" in text and "\x1b" not in hostile and "\u202e" not in hostile


def test_a_missing_matplotlib_and_another_kind_of_file_are_named(tmp_path, monkeypatch):
    run = start(tmp_path / "run")
    with pytest.raises(ValueError, match=r"ends in \.html\. Received: .*network\.keras"):
        report_run(run, None, None, run.folder / "network.keras")
    (tmp_path / "some.html").mkdir()
    with pytest.raises(ValueError, match=r"Received: .*some\.html', a folder"):
        report_run(run, None, None, tmp_path / "some.html")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"needs matplotlib. Install it by `pip install 'tfpqn\["):
        report_run(run, None, None)


@pytest.mark.parametrize("ties", [1, 4])
def test_precision_at_a_recall_is_the_best_of_all_thresholds_that_reach_it(rng, ties):
    scores = np.round(rng.random((5, 12)) * ties, 1 if ties > 1 else 0)
    relevance = rng.random((5, 12)) < 0.4
    relevance[4] = False
    for row, relevant, ranking in zip(
        scores, relevance, rank_items(scores, relevance), strict=True
    ):
        expected = np.zeros(len(RECALLS))
        for place, recall in enumerate(RECALLS):
            for threshold in set(row):
                taken = row >= threshold
                hits = np.sum(taken & relevant)
                if relevant.any() and hits >= recall * relevant.sum() - 1e-6:
                    expected[place] = max(expected[place], hits / taken.sum())
        np.testing.assert_allclose(precision_at_recalls(ranking), expected)


def test_findings_are_those_of_a_search_by_tables(network, case):
    splits, findings = case
    queries = np.array(network.embed(splits.query.images), np.float64)
    codes = np.array(network.encode(splits.database.images))
    scores = (queries @ reference.decode(codes, network.quantizer.codebooks).T).round(5)
    relevance = reference.relevant(splits.query.labels, splits.database.labels)
    for number, query in enumerate(findings.query.positions):
        order = sorted(range(40), key=lambda item: (-scores[query, item], item))[:NUM_FOUND]
        assert findings.found[number].tolist() == order
        assert findings.is_right[number].tolist() == relevance[query][order].tolist()
        average = reference.average_precision(scores[query], relevance[query])
        assert findings.quality[number] == pytest.approx(average)
    assert findings.quality.mean() == pytest.approx(findings.figures["mAP"])


def test_a_label_is_confused_with_the_labels_of_what_is_found(case):
    splits, findings = case
    labels = measures.Labels(findings.query.labels, ("ant", "bee", "cat", "dog"))

    def sets(part, rows):
        return [set(labels.names_of(part.labels[row])) for row in rows]

    queries = sets(splits.query, findings.query.positions)
    found = [sets(splits.database, findings.database.positions[row]) for row in findings.found]
    confusion = measures.confuse(findings, labels)
    for (row, column), share in np.ndenumerate(confusion.shares):
        own, other = confusion.names[row], confusion.names[column]
        shares = [
            np.mean([other in names for names in items])
            for query, items in zip(queries, found, strict=True)
            if own in query
        ]
        assert share == pytest.approx(np.mean(shares))
    hardest = confusion.hardest(2)
    assert max(np.diag(hardest.shares)) <= sorted(np.diag(confusion.shares))[1]
    for own, other, share in confusion.largest(3):
        assert share == confusion.shares[confusion.names.index(own), confusion.names.index(other)]
        assert own != other


def test_the_hardest_queries_come_first_but_for_those_without_a_right_item(case):
    quality = np.array([0.5, 0.0, 0.2, 1.0, 0.2, 0.9, 0.7, 0.8])[: len(case.findings.quality)]
    findings = case.findings._replace(quality=quality)
    assert gallery.hardest_queries(findings, 3).tolist() == [2, 4, 0]
    labels = measures.Labels(findings.query.labels, ())
    rows = gallery.show_rows(findings, labels, np.array([4, 2]))
    for row, number in zip(rows, (4, 2), strict=True):
        assert row.query.id == str(findings.query.positions[number])
        assert row.query.picture == gallery.make_thumbnail(
            case.splits.query.images[findings.query.positions[number]]
        )
        found = findings.found[number, : gallery.SHOWN]
        assert [item.id for item in row.found] == [str(item) for item in found]
        assert [item.is_right for item in row.found] == findings.is_right[number][:8].tolist()


def test_without_labels_right_is_what_raw_embeddings_find():
    vectors = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    network = ProductQuantizationNetwork(
        None, ProductQuantization(2, 8, similarity="l2"), embedding_dim=None
    )
    network.build((None, 8))
    database, query = VectorSet(vectors[:50]), VectorSet(vectors[50:])
    findings = find(network, Splits(database, database, query))
    assert not findings.goes_by_labels and not findings.precision
    for row, vector in enumerate(vectors[50:]):
        nearest = np.argsort(np.square(vectors[:50] - vector).sum(axis=1))[:NUM_FOUND]
        expected = np.isin(findings.found[row], nearest)
        np.testing.assert_array_equal(findings.is_right[row], expected)
        assert findings.quality[row] == pytest.approx(expected.mean())


def test_figures_show_the_numbers_that_they_are_given(rng):
    codes = rng.integers(0, 5, (40, 3))
    counts = count_codewords(codes, 8)
    assert counts.tolist() == [[list(row).count(word) for word in range(8)] for row in codes.T]
    heat, bars, _ = figures.draw_codeword_usage(counts).axes
    widths = [bar.get_width() for bar in bars.patches]
    assert widths[:3] == [len(set(row)) for row in codes.T]
    shares = [np.array(sorted(row, reverse=True)) / 40 for row in counts]
    assert widths[3:] == [pytest.approx(np.prod([p**-p for p in row if p])) for row in shares]
    drawn = heat.images[0].get_array()
    np.testing.assert_allclose(2.0 ** drawn[0][shares[0] > 0], 8 * shares[0][shares[0] > 0])

    curve = rng.random(101)
    (axes,) = figures.draw_precision_recall({"codes": curve}).axes
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), curve)
    (axes,) = figures.draw_shares({"a": 0.25, "b": 0.5}, "share").axes
    assert [bar.get_width() for bar in axes.patches] == [0.25, 0.5]
    confusion = measures.Confusion(["a", "b"], rng.random((2, 2)))
    np.testing.assert_array_equal(
        figures.draw_confusion(confusion).axes[0].images[0].get_array(), confusion.shares
    )
    loss, mean = figures.draw_training_curves(HISTORY).axes
    assert [line.get_ydata().tolist() for line in loss.lines] == [[2, 1]]
    assert [line.get_ydata().tolist() for line in mean.lines] == [[0.4, 0.6], [0.5, 0.7]]


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("cat", "cat"),
        ("_$x$", "_$x$"),
        ("猫 \n", "? ?"),
        ("top-left to bottom-right", "top-left t…tom-right"),
    ],
)
def test_a_name_is_drawn_as_it_is_if_it_is_short_and_the_font_has_it(name, drawn):
    assert figures.shown(name) == drawn
    figure = figures.draw_projection(np.zeros((2, 2)), np.ones(2), [name, measures.NO_LABEL])
    texts = figure.axes[0].get_legend().get_texts()
    assert [text.get_text() for text in texts] == ["others", drawn]
    figure.canvas.draw()


def test_a_projection_keeps_as_much_variance_as_two_axes_can(rng):
    embeddings = rng.normal(size=(30, 5)) * [5, 1, 3, 0.1, 0.1]
    points, shares = measures.project(embeddings)
    values = np.linalg.eigvalsh(np.cov(embeddings.T))[::-1]
    np.testing.assert_allclose(shares, values[:2] / values.sum())
    np.testing.assert_allclose(points.var(axis=0, ddof=1), values[:2])
    points, shares = measures.project(np.ones((3, 1)))
    assert not points.any() and not shares.any()


def test_thumbnails_are_small_and_clips_show_three_frames(rng):
    for shape, size in (
        ((8, 6, 1), (6, 8)),
        ((300, 200, 3), (42, 64)),
        ((9, 40, 30, 3), (90, 40)),
        ((1, 8, 8, 1), (8, 8)),
    ):
        picture = gallery.make_thumbnail(rng.integers(0, 256, shape).astype(np.uint8))
        assert Image.open(BytesIO(picture)).size == size
        assert page._data_uri(picture).startswith("data:image/")


@pytest.mark.slow
def test_every_kind_of_items_is_reported_on(network, tmp_path):
    clips = make_network_with(TemporalProductQuantization(2, 2, 8), 8)
    text = report_on(tmp_path / "clips", clips, make_clip_splits(), most_queries=4)
    assert "<td>4 of 8</td>" in text
    text = report_on(tmp_path / "several", network, make_multi_hot_splits(40, 9))
    assert "Confusion of labels" in text
    images = make_splits()
    without = [
        ImageArrays(part.images, np.full(len(part), -1)) for part in (images.database, images.query)
    ]
    text = report_on(tmp_path / "without", network, Splits(without[0], *without))
    assert "Labels cannot say what is right, as the items have no labels" in text
    assert "Recall of neighbours" in text and "Confusion of labels" not in text
