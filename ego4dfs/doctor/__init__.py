"""What is wrong with this machine, this key or this network, and what to do about it."""

from ego4dfs.doctor.checks import Check, State
from ego4dfs.doctor.machine import check_machine
from ego4dfs.doctor.remote import check_remote

__all__ = ["Check", "State", "check_machine", "check_remote"]
