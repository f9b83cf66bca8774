"""Deterministic simulation of the VFS over a fake store, a fake disk and a virtual clock."""
