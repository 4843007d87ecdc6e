"""Photos in folders, one a label: train on a pretrained backbone's features, export, serve, search.

python examples/photos.py photos/ efficientnet_lite0_imagenet.npz
"""

import sys

import tfpqn
from tfpqn.export.client import SearchClient
from tfpqn.export.server import running_server
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

with running_server("models/photos", port=0, rest_api_port=None) as server:
    with SearchClient(f"localhost:{server.port}", "photos") as client:
        found = client.search([splits.query.encoded_image(0)])
print(splits.query.ids[0], "finds", found.ids[0], "of the labels", found.labels[0])
