"""The `ferflow` command: its own packages first, then the command line in `flows.cli`.

This package lies beside `flows`, so that it can be imported where a lab's own package `flows` comes first on the path.
"""


def main() -> None:
    """Entry point of the `ferflow` command."""
    from ferflow_command.sitecustomize import use_own_packages

    use_own_packages()
    from flows.cli import main as command_line

    command_line()
