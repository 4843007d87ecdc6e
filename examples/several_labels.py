"""A flat folder of photos with several labels each, in a table.

    python examples/several_labels.py photos/ labels.csv efficientnet_lite0_imagenet.npz

The table's columns are `file` and `label`; `cat|indoors` are two labels.
"""

import sys

from tfpqn.training import Run, RunConfig, evaluate_run, train

folder, labels, weights = sys.argv[1:]
run = Run.start("runs/labels", RunConfig.of(images=folder, labels=labels, weights=weights))
splits = run.load_splits()
network = train(run, splits)
metrics = evaluate_run(run, network, splits)
print(f"{len(splits.train.label_names)} labels; an item is relevant that shares one with the query")
print(f"mAP {metrics['mAP']:.3f}, NDCG@10 {metrics['NDCG@k']['10']:.3f}")
