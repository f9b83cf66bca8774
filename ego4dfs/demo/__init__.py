"""The demo: a small release with Ego4D's layout on a local S3 server."""
