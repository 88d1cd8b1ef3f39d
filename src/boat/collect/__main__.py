"""`python -m boat.collect` is `boat collect`."""

import sys

from boat.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["collect", *sys.argv[1:]]))
