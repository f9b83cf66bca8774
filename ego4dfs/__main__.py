"""`python -m ego4dfs` is the same as `ego4dfs`."""

import sys

from ego4dfs.cli import main

sys.exit(main())
