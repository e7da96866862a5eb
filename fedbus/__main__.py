"""`python -m fedbus` is `fedbus`."""

from fedbus.cli import main

if __name__ == "__main__":
    main()
