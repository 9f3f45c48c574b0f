"""The route plane: tenants are tables of the kernel's routing, chosen by mark."""
