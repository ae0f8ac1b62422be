"""All fuzz targets."""

from tests.fuzz import addresses, contents, entries, logins, replies, sessions

TARGETS = {
    target.name: target
    for module in (addresses, contents, logins, entries, replies, sessions)
    for target in module.TARGETS
}
