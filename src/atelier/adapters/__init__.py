"""What is added to networks that are there: through ports, or to their weights."""
