"""All that a training run depends on."""
