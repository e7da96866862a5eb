"""`python -m fedbus` is the command `fedbus`."""

from fedbus.cli import main

if __name__ == "__main__":
    main()
