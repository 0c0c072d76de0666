"""Whose infotexts are read: one module for each program, or kin of programs."""
