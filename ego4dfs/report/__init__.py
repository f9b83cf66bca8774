"""The report of what mounts have recorded: access patterns, amplification, hit rate, advice."""

from ego4dfs.report.advice import advice
from ego4dfs.report.records import Record, read_records
from ego4dfs.report.summary import Step, Summary, summarize

__all__ = ["Record", "Step", "Summary", "advice", "read_records", "summarize"]
