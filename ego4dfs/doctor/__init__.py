"""Checks of this machine, the network, the key and the datasets, each with a remedy."""

from ego4dfs.doctor.checks import Check, Level
from ego4dfs.doctor.machine import check_machine
from ego4dfs.doctor.remote import check_remote

__all__ = ["Check", "Level", "check_machine", "check_remote"]
