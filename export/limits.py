"""What one request may ask of memory; the graph, the client and the local server agree on it."""

MAX_K = 10_000
# Ids, and tags of each kind, for one query.
MAX_EXCLUSIONS = 1024
MAX_TAGS_PER_QUERY = 256
# 33 million: decoded and resized, such an image takes half a gigabyte for a moment.
MAX_PIXELS = 2**25
