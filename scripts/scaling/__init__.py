"""Simulation of training on many nodes: requests and bytes to S3, with and without a near tier."""
