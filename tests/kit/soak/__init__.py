"""The soak test: readers of every kind on mounts and `ego4d://`, under faults, kills and changes.

`python -m kit.soak MINUTES` prints what happened; `scripts/soak` sets up first.
"""
