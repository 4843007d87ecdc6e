"""Files as others may leave them: written in one step, locked, read with care."""
