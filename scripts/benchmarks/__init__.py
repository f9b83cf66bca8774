"""`scripts/bench`: ego4dfs and its peers, measured side by side against one server."""
