"""`python -m omnidrop_cli`."""

from omnidrop_cli.cli import main

if __name__ == "__main__":
    main()
