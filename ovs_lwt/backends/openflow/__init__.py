"""The `ovs` plane: flows and groups on Open vSwitch, through os-ken or Ryu."""
