"""The DKIM shell: keys on disk, canonicalisation, signatures."""
