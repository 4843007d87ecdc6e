"""Losses on pairs of raw and quantized embeddings."""

from tfpqn.losses.asymmetric_triplet_loss import AsymmetricTripletLoss as AsymmetricTripletLoss
from tfpqn.losses.asymmetric_triplet_loss import asymmetric_triplet_loss as asymmetric_triplet_loss
