"""Fuzzing of everything that ego4dfs reads and did not write: files, databases, HTTP answers."""
