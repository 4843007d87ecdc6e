"""What training draws from a set: order, augmentation, batches."""
