"""The forwarding planes: each turns a host's view into rows, messages and a transport."""
