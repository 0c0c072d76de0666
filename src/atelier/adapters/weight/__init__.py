"""Kinds of weight adapters, one module each, which exports SPECS. What they share is in `adapters.delta`."""
