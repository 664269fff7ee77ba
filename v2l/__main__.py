"""`python -m v2l` is `v2l`."""

from v2l.cli import main

if __name__ == "__main__":
    main()
