"""The tree over HTTP: files with ranges, listings for people and for programs."""
