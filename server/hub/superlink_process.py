"""`flower-superlink` with a plain log: it writes identifiers that sites chose, and requests that strangers made."""


def main() -> None:
    """Run Flower's command with this process's arguments."""
    from fedbus.system.plain_log import keep_logs_plain
    from server.flower_internals import run_superlink

    keep_logs_plain("flwr", "uvicorn.error", "uvicorn.access")
    run_superlink()


if __name__ == "__main__":
    main()
