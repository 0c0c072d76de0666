"""The steps of generating images, as data that performs itself: one kind to a file."""
