"""The network that carries the tunnels: this host's part of it, and the way to other hosts."""
