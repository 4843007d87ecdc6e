"""Photos in folders, one a label: train on a pretrained backbone's features, code, export, search.

python examples/photos.py photos/ efficientnet_lite0_imagenet.npz
"""

import sys

import tfpqn
from tfpqn.training import Run, RunConfig, evaluate_run, train

folder, weights = sys.argv[1:]
run = Run.start("runs/photos", RunConfig.of(images=folder, weights=weights))
splits = run.load_splits()
network = train(run, splits)
metrics = evaluate_run(run, network, splits)
print(f"mAP {metrics['mAP']:.3f} with {metrics['bits_per_code'] / 8:g} bytes a photo")

tfpqn.index.build_index(network, splits.database, "indexes/photos", overwrite=True)
index = tfpqn.index.CodeIndex.load("indexes/photos")
searcher = tfpqn.export.Searcher(network, index, top_k=5, label_column="label")
tfpqn.export.save_searcher(searcher, "models/photos/1", overwrite=True)

searcher = tfpqn.export.load_searcher("models/photos/1")
found = searcher([splits.query.encoded_image(0)])
print(splits.query.ids[0], "finds", found.ids[0], "of the labels", found.labels[0])
