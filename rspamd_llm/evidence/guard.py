"""Which addresses a request to the open internet may go to.

A plain rule over address texts.  What may not live here: names and their resolution (dns.py),
connections (fetch.py).
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network

# The IANA registries of special-purpose addresses (RFC 6890), as far as they are not globally
# reachable, with multicast and reserved ones.  `ipaddress` has a table too, which differs between
# the Python versions that we run on (3.11.10 and 3.12.4 changed it).
_CLOSED_V4 = tuple(
    IPv4Network(each)
    for each in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
    )
)
# The part of IPv6 that is handed out (RFC 4291 2.4, IANA), and what of it leads elsewhere:
# protocols' own (Teredo among them), documentation, 6to4, documentation.
_OPEN_V6 = IPv6Network("2000::/3")
_CLOSED_V6 = tuple(
    IPv6Network(each) for each in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
# RFC 6052 2.1: the NAT64 gateway sends on to the IPv4 address in the last 32 bits.
_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an IP address, in its usual spelling, belongs to some host of the open internet.

    Neither this machine, nor its networks, nor a group of hosts, nor a detour to any of them by
    NAT64, 6to4, Teredo or an IPv4-mapped address.  False for what is no address.
    """
    try:
        return _is_public_v4(IPv4Address(address))
    except AddressValueError:
        pass
    try:
        long = IPv6Address(address)
    except AddressValueError:
        return False
    if long.scope_id is not None:
        return False
    if long in _NAT64:
        return _is_public_v4(IPv4Address(int(long) & 0xFFFFFFFF))
    return long in _OPEN_V6 and not any(long in network for network in _CLOSED_V6)


def _is_public_v4(address: IPv4Address) -> bool:
    return not any(address in network for network in _CLOSED_V4)
