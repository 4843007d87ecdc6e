"""All that a training run depends on: data, model, loss and optimisation."""
