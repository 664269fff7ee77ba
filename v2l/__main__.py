"""Where the `v2l` command, or `python -m v2l`, begins and ends."""

import os
import sys

from v2l.system import interrupts


def main() -> None:
    """Runs the `v2l` command, to the end of its process."""
    try:
        try:
            interrupts.listen()
            _open_closed_streams()
            from v2l.cli.app import main as command

            command()
        finally:
            interrupts.ignore()
    except KeyboardInterrupt as error:
        text, status = interrupts.message_and_status(error)
        print(text, file=sys.stderr)
        interrupts.leave(status)
    except SystemExit as ended:
        if ended.code in (interrupts.INTERRUPTED, interrupts.TERMINATED):
            interrupts.leave(ended.code)
        raise


def _open_closed_streams() -> None:
    """Opens stdin, stdout and stderr on nothing where they were closed (`v2l ... 2>&-`): the next file that is opened
    would take their number, and what a library prints would be written into it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115 (for the whole process); `print` takes None for stdout


if __name__ == "__main__":
    main()
