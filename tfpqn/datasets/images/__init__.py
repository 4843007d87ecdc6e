"""Images: arrays, folders, and from bytes to pixels."""
