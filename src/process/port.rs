//! Ports of this machine.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

/// Whether a server could listen at a port of this machine right now, in whichever family it would.
pub fn is_port_free(port: u16) -> bool {
    // Systems say in several ways that they have no such address; only one says that somebody is there.
    let free = |address: SocketAddr| {
        TcpListener::bind(address).err().is_none_or(|error| error.kind() != ErrorKind::AddrInUse)
    };
    free((Ipv4Addr::LOCALHOST, port).into())
        && free((Ipv4Addr::UNSPECIFIED, port).into())
        && free((Ipv6Addr::LOCALHOST, port).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_free_until_somebody_listens_wherever_that_is() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            assert!(!is_port_free(port), "{address}");
        }
    }
}
