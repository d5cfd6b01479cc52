"""Who is measured: the floor, the two-Lambda way, and replyd."""
