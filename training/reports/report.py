"""The report on a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfpqn._text import counted
from tfpqn.datasets import Splits
from tfpqn.files.atomic import write_file_atomically
from tfpqn.protocols import NetworkLike

from ..encoding import spread
from ..evaluation import count_codewords
from ..runs.run import REPORT_FILE, Run
from ..settings.settings_file import settings_to_json
from . import figures, gallery, measures, page
from .findings import MOST_QUERIES, NUM_FOUND, Findings, find

# Items whose embeddings are projected, labels whose confusion is drawn, rows of each gallery.
PROJECTED_ITEMS = 2000
CONFUSED_LABELS = 20
GALLERY_ROWS = 8
SUFFIXES = (".html", ".htm")


def report_run(
    run: Run,
    network: NetworkLike,
    splits: Splits,
    path: str | Path | None = None,
    *,
    source: str | Path | None = None,
    most_queries: int = MOST_QUERIES,
) -> Path:
    """Write a page with figures and examples of what a run's network finds.

    The page is one HTML file with all its pictures; it names nothing outside itself.

    Args:
        run: The run.
        network: Its network.
        splits: `query` and `database` are used.
        path: The file to write, which is replaced; `report.html` in the run's folder by default.
        source: Name of the protocol or folder that the splits are of, if that is not the run's.
        most_queries: Of more queries so many are asked, evenly spread.

    Returns:
        The path.

    Raises:
        ImportError: Matplotlib is not installed.
        ValueError: The file is not named as a page, or the items do not fit the network.
    """
    path = run.folder / REPORT_FILE if path is None else Path(path)
    if path.suffix.lower() not in SUFFIXES or path.is_dir():
        raise ValueError(
            f"The report must be a file that ends in .html. Received: {str(path)!r}"
            f"{', a folder' if path.is_dir() else ''}"
        )
    figures.import_matplotlib()
    findings = find(network, splits, most_queries)
    data = run.config.data
    facts = {"data": source or data.protocol or data.folder, **_sizes(findings, splits)}
    parts = _parts(run, network, findings, facts)
    content = page.render_page(f"Report on {run.folder.resolve().name}", parts)
    write_file_atomically(path, content.encode())
    return path


def _parts(
    run: Run, network: NetworkLike, findings: Findings, facts: dict[str, Any]
) -> Iterator[page.Part]:
    labels = measures.Labels(findings.query.labels, findings.splits.database.label_names)
    yield _describe(run, network, findings, facts)
    if findings.goes_by_labels:
        yield _draw_means(findings)
        yield _draw_precision(findings)
    else:
        yield _draw_neighbours(findings)
    if history := run.read_history():
        figure = figures.draw_training_curves(history)
        text = "The metrics of training after each epoch."
        yield page.Part("Training", text, page.figure_html(figure, text))
    yield _draw_usage(network, findings)
    yield _draw_projection(findings, labels)
    if findings.goes_by_labels:
        yield _draw_confusion(findings, labels)
    yield from _show_galleries(findings, labels)


def _sizes(findings: Findings, splits: Splits) -> dict[str, str]:
    """How many items and queries there are, and how many have no part."""
    sizes = {
        "items searched": f"{len(findings.database.codes):,}",
        "queries": _of(len(findings.query.codes), len(splits.query)),
    }
    unlabelled = findings.figures["unlabelled_queries"]
    if unlabelled and findings.goes_by_labels:
        sizes["left out"] = f"{counted(unlabelled, 'queries')} without a label"
    if unanswerable := int((~findings.can_be_answered).sum()):
        sizes["unanswerable"] = f"{counted(unanswerable, 'queries')} whose labels no item has"
    if skipped := len(findings.splits.query.skipped) + len(splits.database.skipped):
        sizes["unreadable"] = counted(skipped, "items")
    return sizes


def _of(count: int, total: int) -> str:
    return f"all {total:,}" if count == total else f"{count:,} of {total:,}"


def _describe(
    run: Run, network: NetworkLike, findings: Findings, facts: dict[str, Any]
) -> page.Part:
    quantizer = network.quantizer
    facts = {
        **facts,
        "model": f"{run.config.model.kind}, {quantizer.bits_per_code:g} bits a code",
        "raw embeddings": f"{findings.query.embeddings.shape[1]:,} numbers each",
        "similarity": quantizer.similarity,
        "epochs": len(run.read_history()),
    }
    gap = findings.figures["not_measured"]
    sentence = "An item is right for a query if they share a label."
    if gap:
        sentence = (
            f"Labels cannot say what is right, as {gap}. An item counts as right if it is among "
            f"the {NUM_FOUND} nearest to the query by raw embeddings."
        )
    settings = json.dumps(settings_to_json(run.config), indent=2, ensure_ascii=False)
    content = page.facts_html(facts) + page.details_html("All settings", settings)
    return page.Part("The run", sentence, content)


def _draw_means(findings: Findings) -> page.Part:
    """mAP of raw embeddings, of codes, and of the first levels of codes alone."""
    measured = findings.figures
    shares = {
        "raw embeddings": measured["raw_embeddings"]["mAP"],
        f"codes, {measured['bits_per_code']:g} bits": measured["mAP"],
    }
    for prefix in measured["prefixes"][:-1]:
        name = f"first {counted(prefix['num_levels'], 'levels')}, {prefix['bits_per_code']:g} bits"
        shares[name] = prefix["mAP"]
    shares["queries coded too"] = measured["coded_queries"]["mAP"]
    text = (
        "The mean average precision of codes beside that of raw embeddings: the difference is the "
        "price of coding."
    )
    return _draw_shares("mAP", text, shares, "mAP over the full ranking")


def _draw_neighbours(findings: Findings) -> page.Part:
    """How many of the exact nearest items codes find."""
    bits = findings.figures["bits_per_code"]
    shares = {}
    for name, share in findings.figures["neighbour_recall"].items():
        nearest, found = name.split("@")
        shares[f"{nearest} nearest, first {found} found"] = share
    text = f"Codes of {bits:g} bits find this share of the items nearest by raw embeddings."
    return _draw_shares("Recall of neighbours", text, shares, "share of the exact nearest items")


def _draw_shares(heading: str, text: str, shares: dict[str, float], title: str) -> page.Part:
    read_out = "; ".join(f"{name}: {share:.3f}" for name, share in shares.items())
    return page.Part(heading, text, page.figure_html(figures.draw_shares(shares, title), read_out))


def _draw_precision(findings: Findings) -> page.Part:
    text = (
        "The best precision that a score threshold has at each recall; the mean over the queries."
    )
    figure = figures.draw_precision_recall(findings.precision)
    return page.Part("Precision and recall", text, page.figure_html(figure, text))


def _draw_usage(network: NetworkLike, findings: Findings) -> page.Part:
    counts = count_codewords(findings.database.codes, network.quantizer.num_codewords)
    text = (
        f"{findings.figures['codebook_usage']:.1%} of the codewords are chosen by at least one of "
        f"{len(findings.database.codes):,} items. Codes tell items apart best where all codewords "
        "are chosen alike."
    )
    figure = figures.draw_codeword_usage(counts)
    return page.Part("Codewords in use", text, page.figure_html(figure, text))


def _draw_projection(findings: Findings, labels: measures.Labels) -> page.Part:
    num_items = len(findings.database.codes)
    sample = findings.database.take(spread(num_items, PROJECTED_ITEMS))
    points, shares = measures.project(sample.embeddings)
    figure = figures.draw_projection(points, shares, labels.group(sample.labels))
    text = (
        f"Raw embeddings of {_of(len(points), num_items)} items along their two principal "
        "components."
    )
    return page.Part("Embeddings", text, page.figure_html(figure, text))


def _draw_confusion(findings: Findings, labels: measures.Labels) -> page.Part:
    confusion = measures.confuse(findings, labels)
    hardest = confusion.hardest(CONFUSED_LABELS)
    text = (
        f"Which labels are among the first {findings.found.shape[1]} items found for queries of a "
        "label. "
    )
    if len(hardest.names) < len(confusion.names):
        text += (
            f"The figure has the {len(hardest.names)} of {len(confusion.names)} labels whose "
            "queries find their own label least. "
        )
    content = page.figure_html(figures.draw_confusion(hardest), text)
    if pairs := confusion.largest(GALLERY_ROWS):
        heads = ["queries of", "find", "share of the items found"]
        content += page.table_html(heads, [(*pair, f"{share:.1%}") for *pair, share in pairs])
    return page.Part("Confusion of labels", text, content)


def _show_galleries(findings: Findings, labels: measures.Labels) -> Iterator[page.Part]:
    spread_over, quality = "the collection", "share"
    note = f"The share is that of the right ones among the first {NUM_FOUND}."
    if findings.goes_by_labels:
        spread_over, quality = "the labels", "AP"
        note = "AP is the average precision of the whole ranking."
    for heading, text, choose in (
        ("Queries", f"Queries evenly spread over {spread_over}", gallery.typical_queries),
        ("The hardest queries", "The queries answered worst", gallery.hardest_queries),
    ):
        rows = gallery.show_rows(findings, labels, choose(findings, GALLERY_ROWS))
        if rows:
            text += f", with the first items found: ✓ right, ✗ wrong. {note}"
            yield page.Part(heading, text, page.gallery_html(rows, quality))
