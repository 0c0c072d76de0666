"""The processes beside the server: one that settles what is asked for, and one for each device that generates."""
