"""The dnspython shell: what the relay resolves, and the publication of our keys."""
