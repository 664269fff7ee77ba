"""`python -m v2l` is `v2l`; and where the `v2l` command begins."""

import sys


def main() -> None:
    try:
        from v2l.cli import main as command  # a second or so in which Ctrl-C may come already

        command()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
