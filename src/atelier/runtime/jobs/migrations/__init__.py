"""How databases of earlier versions become the newest: Alembic's scripts, run at opening.

To change a table, change `tables.py` and add a file to `versions` whose `down_revision` is the newest there. A test
compares both.
"""
