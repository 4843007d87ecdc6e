"""`python -m tfpqn`: the command line."""

from tfpqn.cli import main

if __name__ == "__main__":
    main()
