"""What a long-running process needs: worker threads, deadlines, throttled logging."""
