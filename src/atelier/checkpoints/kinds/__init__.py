"""The kinds of files that are told apart: a module for each, or for a few that are much alike, exports SPECS."""
