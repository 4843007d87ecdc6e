"""Collections in the formats of other systems, and from them."""
