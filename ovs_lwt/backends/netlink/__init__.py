"""Rows stamped into netlink messages, sent in batches, and compared with what the kernel lists."""
