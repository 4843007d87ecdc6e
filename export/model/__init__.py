"""The searcher, and the version folder that a server loads."""
