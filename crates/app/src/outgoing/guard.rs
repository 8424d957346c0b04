//! Which addresses requests may go to: the public internet, and what an operator has allowed besides.
//!
//! URLs come from definitions, from tenants and from what providers send, so that any of them might point into the
//! network that the server stands in (server-side request forgery). What is judged here is the address itself, at the
//! moment at which it is connected to; names are never judged. It resolves nothing and connects to nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Blocks of addresses that are not public, with what they are for (the IANA registries of special-purpose
/// addresses, RFC 6890). Of IPv6 only the global unicast block 2000::/3 is public, which is checked apart.
const SPECIAL: [(&str, &str); 21] = [
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "a carrier's private network"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "reserved"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("2001::/23", "reserved"),
    ("2001:db8::/32", "documentation"),
    ("3fff::/20", "documentation"),
    ("fc00::/7", "private"),
];

/// Where clouds hand out credentials to whoever asks from inside. Some are public addresses. A block that happens to
/// contain one does not open it: it has to be named by itself.
const METADATA: [&str; 11] = [
    "169.254.169.254", // AWS, Azure, Google, OpenStack and most others
    "169.254.170.2",   // AWS ECS
    "169.254.170.23",  // AWS EKS
    "169.254.0.23",    // Tencent
    "169.254.42.42",   // Scaleway
    "100.100.100.200", // Alibaba
    "192.0.0.192",     // Oracle, the older one
    "168.63.129.16",   // Azure's host, a public address
    "fd00:ec2::254",   // AWS
    "fd00:ec2::23",    // AWS EKS
    "fd20:ce::254",    // Google
];

/// A block of addresses in CIDR notation, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    network: IpAddr,
    prefix: u8,
}

impl Block {
    /// A lone address is a block of one.
    ///
    /// # Errors
    /// A fragment that says how one is written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let no_block =
            || format!("`{text}` is no block of addresses; write such as 10.1.0.0/16, fd00::/8 or 127.0.0.1");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let network: IpAddr = address.parse().map_err(|_| no_block())?;
        let bits: u8 = if network.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) => digits.parse().ok().filter(|prefix| *prefix <= bits).ok_or_else(no_block)?,
            None => bits,
        };
        let block = Self { network, prefix };
        if block.network != block.masked(network) {
            let start = block.masked(network);
            return Err(format!("`{text}` has bits set behind its first {prefix}; write {start}/{prefix}"));
        }
        Ok(block)
    }

    fn masked(&self, address: IpAddr) -> IpAddr {
        let prefix = u32::from(self.prefix);
        match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
                Ipv4Addr::from_bits(v4.to_bits() & mask).into()
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
                Ipv6Addr::from_bits(v6.to_bits() & mask).into()
            }
        }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.network.is_ipv4() == address.is_ipv4() && self.masked(address) == self.network
    }

    fn is_single(&self) -> bool {
        self.prefix == if self.network.is_ipv4() { 32 } else { 128 }
    }
}

/// What an operator has allowed beyond the public internet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed(Vec<Block>);

impl Allowed {
    /// Nothing but the public internet.
    pub fn public() -> Self {
        Self::default()
    }

    /// This machine too: for `dev`, whose neighbours are on it.
    pub fn loopback() -> Self {
        Self::parse("127.0.0.0/8,::1/128").expect("both are blocks")
    }

    /// Reads blocks separated by commas.
    ///
    /// # Errors
    /// A fragment that names the first that is none, and how one is written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let blocks = text.split(',').filter(|block| !block.trim().is_empty());
        blocks.map(Block::parse).collect::<Result<_, _>>().map(Self)
    }

    /// What either allows.
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Whether a request may go to an address.
    ///
    /// # Errors
    /// What kind of address it is that it may not.
    pub fn check(&self, address: IpAddr) -> Result<(), ForbiddenAddress> {
        // What is connected to for a mapped address is the IPv4 one.
        let address = address.to_canonical();
        let Some(kind) = kind_of(address) else { return Ok(()) };
        let exactly = kind == METADATA_KIND;
        let opened = |block: &Block| block.contains(address) && (block.is_single() || !exactly);
        if self.0.iter().any(opened) { Ok(()) } else { Err(ForbiddenAddress { address, kind }) }
    }
}

/// An address that no request may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForbiddenAddress {
    pub address: IpAddr,
    kind: &'static str,
}

impl fmt::Display for ForbiddenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, kind } = self;
        write!(f, "{address} is {kind}; if requests may go there, allow it with `allow_addresses`")
    }
}

impl std::error::Error for ForbiddenAddress {}

const METADATA_KIND: &str = "where a cloud hands out credentials";

/// What keeps an address from being simply public.
fn kind_of(address: IpAddr) -> Option<&'static str> {
    let is = |text: &&str| text.parse() == Ok(address);
    if METADATA.iter().any(is) {
        return Some(METADATA_KIND);
    }
    if let IpAddr::V6(v6) = address
        && let Some(inner) = embedded(v6)
    {
        // A gateway would carry the request there.
        return kind_of(inner.into());
    }
    let within = |block: &str| Block::parse(block).is_ok_and(|block| block.contains(address));
    let special = SPECIAL.iter().find(|(block, _)| within(block)).map(|(_, kind)| *kind);
    special.or_else(|| (!is_global_unicast(address)).then_some("not public"))
}

fn is_global_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => v6.segments()[0] & 0xe000 == 0x2000,
    }
}

/// The IPv4 address within an IPv6 one: compatible (RFC 4291), NAT64 (RFC 6052) and 6to4 (RFC 3056). The prefix for
/// local NAT64 (RFC 8215) puts it in several places, and is not public anyway.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match (a, b, c, d, e, f) {
        // `::` and `::1` are addresses of their own.
        (0, 0, 0, 0, 0, 0) => (g != 0 || h > 1).then(|| of(g, h)),
        (0x64, 0xff9b, 0, 0, 0, 0) => Some(of(g, h)),
        (0x2002, high, low, ..) => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap_or_else(|_| panic!("{text}"))
    }

    const PUBLIC: &str = "
        1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 172.15.255.255
        172.32.0.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255
        2606:4700::1111 2a00:1450::1 2001:200::1 3ffe::1
        ::ffff:8.8.8.8 64:ff9b::808:808 2002:808:808::1";

    const CLOSED: &str = "
        0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254 169.254.1.1
        172.16.0.1 172.31.255.255 192.0.0.1 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255
        198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
        169.254.169.254 168.63.129.16 100.100.100.200 192.0.0.192 fd00:ec2::254 fd20:ce::254
        :: ::1 100::1 2001::1 2001:2::1 2001:db8::1 3fff::1 5f00::1 fc00::1 fd12:3456::1 fe80::1 fec0::1 ff02::1
        ::7f00:1 ::10.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254
        64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::808:808 2002:7f00:1::1 2002:a9fe:a9fe::";

    #[test]
    fn only_public_addresses_are_open_to_everybody() {
        for public in PUBLIC.split_whitespace() {
            assert_eq!(Allowed::public().check(address(public)), Ok(()), "{public}");
        }
        for closed in CLOSED.split_whitespace() {
            assert!(Allowed::public().check(address(closed)).is_err(), "{closed}");
        }
    }

    #[test]
    fn what_is_allowed_is_open_and_nothing_else_is() {
        for (allowed, open, closed) in [
            (
                "127.0.0.0/8,::1/128",
                &["127.0.0.1", "::1", "::ffff:127.0.0.1"][..],
                &["10.0.0.1", "0.0.0.0", "::"][..],
            ),
            ("10.1.0.0/16", &["10.1.255.255"], &["10.0.255.255", "10.2.0.0", "::ffff:10.2.0.0"]),
            ("192.168.7.7", &["192.168.7.7"], &["192.168.7.6"]),
            ("fd00::/8", &["fd12::1"], &["fd00:ec2::254", "fc00::1", "10.0.0.1"]),
            (
                "0.0.0.0/0, ::/0",
                &["10.0.0.1", "fe80::1", "8.8.8.8"],
                &["169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "168.63.129.16"],
            ),
            (
                "169.254.169.254/32",
                &["169.254.169.254", "::ffff:169.254.169.254"],
                &["169.254.169.253", "fd00:ec2::254"],
            ),
            ("fd00:ec2::254/128", &["fd00:ec2::254"], &["169.254.169.254"]),
        ] {
            let guard = Allowed::parse(allowed).unwrap();
            for open in open {
                assert_eq!(guard.check(address(open)), Ok(()), "{open} by {allowed}");
            }
            for closed in closed {
                assert!(guard.check(address(closed)).is_err(), "{closed} by {allowed}");
            }
        }
        assert_eq!(Allowed::loopback(), Allowed::parse(" 127.0.0.0/8 , ::1 ,").unwrap());
        assert_eq!(Allowed::parse(""), Ok(Allowed::public()));
    }

    #[test]
    fn what_is_no_block_is_named_with_how_one_is_written() {
        for (text, part) in [
            ("10.0.0.0/33", "`10.0.0.0/33` is no block"),
            ("::/129", "no block"),
            ("localhost", "`localhost` is no block"),
            ("10.0.0.0/-1", "no block"),
            ("127.0.0.0/8,10.0.0.0/", "`10.0.0.0/` is no block"),
            ("10.1.2.3/8", "write 10.0.0.0/8"),
            ("fd00::1/8", "write fd00::/8"),
        ] {
            let problem = Allowed::parse(text).unwrap_err();
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }
}
