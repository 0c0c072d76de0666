"""File formats: the only place, with the store and training, where files are opened."""
