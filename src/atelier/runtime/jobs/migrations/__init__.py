"""How databases of earlier versions become the newest: Alembic's scripts, run at opening."""
