"""What every request passes before a route sees it, as pure ASGI: one file for each guard."""
