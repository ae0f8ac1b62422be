"""Redis and Git shells: the spool, its leases, and the users."""
