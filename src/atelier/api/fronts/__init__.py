"""The dialects, one module each, which exports SPECS with its Front."""
