"""What somebody else adds to the package, without editing a file of it."""
