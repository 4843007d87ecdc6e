"""What a model and those who ask it agree on."""
