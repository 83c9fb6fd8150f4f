"""`python -m embarc` is the command `embarc`."""

from embarc.cli.main import main

if __name__ == "__main__":
    main()
