"""The lab: a whole overlay as network namespaces on this machine."""
