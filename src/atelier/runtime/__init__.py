"""The machine: which device computes, what lies on disk, what is in memory, where images go."""
