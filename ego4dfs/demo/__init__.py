"""A small release of Ego4D's shape on a real S3 server of this machine."""
