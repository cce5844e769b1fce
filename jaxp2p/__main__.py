"""`python -m jaxp2p` is the same as the command `jaxp2p`."""

from jaxp2p.cli import main

if __name__ == "__main__":
    main()
