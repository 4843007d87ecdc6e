"""Photos in folders, on a backbone of keras.applications.

    python examples/keras_applications.py photos/ MobileNetV2 imagenet

Keras downloads the weights; a file of its `save_weights` will do too.
"""

import sys

from tfpqn.training import Run, RunConfig, evaluate_run, train

folder, backbone, weights = sys.argv[1:]
config = RunConfig.of(images=folder, backbone=backbone, weights=weights, image_size=96, bits=48)
run = Run.start(f"runs/{backbone}", config)
splits = run.load_splits()
network = train(run, splits)  # the backbone is frozen; RunConfig.of(fine_tune=0.5) trains half
metrics = evaluate_run(run, network, splits)
features = network.backbone.output_shape[-1]
print(f"{backbone} gives {features} features; mAP {metrics['mAP']:.3f} with 6 bytes a photo")
