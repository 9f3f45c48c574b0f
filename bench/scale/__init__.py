"""`make bench-scale`: a million endpoints, four thousand tenants, a thousand hosts."""
