"""`python -m atelier`."""

from atelier.cli.app import main

if __name__ == "__main__":
    main()
