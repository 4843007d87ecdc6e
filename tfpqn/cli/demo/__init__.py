"""`tfpqn demo`: the whole road on digits, and its picture."""
