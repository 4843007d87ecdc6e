"""What one request may ask of memory; the graph, the client and the local server agree on it."""

from tfpqn.items import MAX_PIXELS as MAX_PIXELS

MAX_K = 10_000
# Ids, and tags of each kind, for one query.
MAX_EXCLUSIONS = 1024
MAX_TAGS_PER_QUERY = 256
