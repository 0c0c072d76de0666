"""The kinds of jobs, one file each: how fields become settled JSON, and how that is performed."""
