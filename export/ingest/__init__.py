"""Collections that grow while they are served: a base now and then, and small deltas to it."""
