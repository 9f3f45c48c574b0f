"""The `bridge` plane: one VLAN-aware Linux bridge, one VXLAN device, their tables filled by us."""
