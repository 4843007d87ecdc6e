"""The client of a collection in shards, and of one that grows beside them."""
