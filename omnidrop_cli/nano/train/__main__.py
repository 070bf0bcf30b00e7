"""`python -m omnidrop_cli.nano.train`: the recipe of the nano model."""

import sys

from omnidrop_cli.nano.train.recipe import main

if __name__ == "__main__":
    sys.exit(main())
