"""What this host's kernel holds and does for us: links, addresses, leases, and the guardian that ends them."""
