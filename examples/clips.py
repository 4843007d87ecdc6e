"""Videos in folders, one a label: the network sees how the frames of a clip change.

    python examples/clips.py clips/

Needs PyAV: pip install '.[video]'. Settings for real videos: image_size=112, num_frames=16.
"""

import sys

import tfpqn
from tfpqn.training import Run, RunConfig, evaluate_run, train

(folder,) = sys.argv[1:]
config = RunConfig.of(model="tpqn", videos=folder, image_size=32, num_frames=8, epochs=20)
run = Run.start("runs/clips", config)
splits = run.load_splits()
network = train(run, splits)
print(f"mAP {evaluate_run(run, network, splits)['mAP']:.3f}")

tfpqn.index.build_index(network, splits.database, "indexes/clips", overwrite=True)
index = tfpqn.index.CodeIndex.load("indexes/clips")
searcher = tfpqn.export.Searcher(network, index, top_k=5, label_column="label")
tfpqn.export.save_searcher(searcher, "models/clips/1", overwrite=True)

found = tfpqn.export.load_searcher("models/clips/1")([splits.query.encoded_frames(0)])
print(splits.query.ids[0], "finds", found.ids[0], "of the labels", found.labels[0])
