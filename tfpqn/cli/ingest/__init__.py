"""`tfpqn ingest`: an index that grows, and the servers that follow it."""
