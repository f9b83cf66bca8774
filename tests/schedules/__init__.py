"""Exploration of thread schedules: product code runs on simulated threads, one schedule at a time.

`instrument` loads a second copy of the product's modules, with switch points between all reads,
writes and calls, and with simulated locks, threads, queues and clocks. `scheduler` runs one
schedule, `strategies` choose it, `explore` runs thousands. A scenario is a function that uses one
object from several threads and asserts what the object promises; `bugs` are changes to the product
that the scenarios must find.
"""
