"""The kinds of training: a module of each, which exports SPECS, beside the recipe that it takes where none is given."""
