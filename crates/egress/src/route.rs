//! Whether an address is one of this machine's own. The kernel is asked (rtnetlink(7), RTM_GETROUTE): it alone knows all of them, those
//! of a broadcast and of a rule's table included, as they are now.

use std::{io, net::IpAddr};

use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, sendto, socket_with},
};

/// linux/netlink.h and linux/rtnetlink.h.
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const RTA_DST: u16 = 1;
/// A way through a gateway or to a neighbour; all others stay in this machine, or are none.
const RTN_UNICAST: u8 = 1;
const HEADER: usize = 16;
const ROUTE: usize = 12;
/// Where the kind of a route stands in it.
const KIND: usize = HEADER + 7;

/// Whether what is sent to this address leaves the machine.
///
/// # Errors
/// Of asking. Where there is no way to the address, it is the kernel's answer.
pub(crate) fn leaves(address: IpAddr) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Without a number it is NETLINK_ROUTE, which is 0.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    sendto(&socket, &question(address), SendFlags::empty(), &netlink::SocketAddrNetlink::new(0, 0))?;
    // The kernel has answered before the sending returned.
    let mut bytes = [0; 1024];
    let (len, _) = recv(&socket, &mut bytes[..], RecvFlags::empty())?;
    answer(&bytes[..len])
}

fn question(address: IpAddr) -> Vec<u8> {
    // Its family (AF_INET, AF_INET6), bits, octets; the length of the attribute, four bytes more; and of all.
    let (family, bits, octets, attribute, len) = match address {
        IpAddr::V4(address) => (2, 32, address.octets().to_vec(), 8u16, 36u32),
        IpAddr::V6(address) => (10, 128, address.octets().to_vec(), 20, 48),
    };
    let mut bytes = Vec::with_capacity(HEADER + ROUTE + 4 + octets.len());
    // nlmsghdr: length, kind, flags, number, port. rtmsg: family, length of the destination in bits, and nothing else.
    bytes.extend(len.to_ne_bytes());
    bytes.extend([RTM_GETROUTE, NLM_F_REQUEST].iter().flat_map(|half| half.to_ne_bytes()));
    bytes.extend([0; 8]);
    bytes.extend([family, bits]);
    bytes.extend([0; ROUTE - 2]);
    bytes.extend([attribute, RTA_DST].iter().flat_map(|half| half.to_ne_bytes()));
    bytes.extend(octets);
    bytes
}

fn answer(bytes: &[u8]) -> io::Result<bool> {
    let half = |at: usize| bytes.get(at..at + 2).and_then(|half| half.try_into().ok()).map(u16::from_ne_bytes);
    let whole = |at: usize| bytes.get(at..at + 4).and_then(|whole| whole.try_into().ok()).map(i32::from_ne_bytes);
    match half(4) {
        Some(RTM_NEWROUTE) => bytes.get(KIND).map(|kind| *kind == RTN_UNICAST).ok_or(Errno::BADMSG.into()),
        Some(NLMSG_ERROR) => Err(whole(HEADER).map_or(Errno::BADMSG.into(), |errno| io::Error::from_raw_os_error(-errno))),
        _ => Err(Errno::BADMSG.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn the_kernel_knows_this_machines_addresses() {
        for own in ["127.0.0.1", "127.9.9.9"] {
            assert!(!leaves(own.parse().unwrap()).unwrap(), "{own}");
        }
        assert!(!leaves("255.255.255.255".parse().unwrap()).unwrap_or(false));
        // Where this machine is connected with anything: the address that it has there is its own, the other's is not.
        let far = "192.0.2.1";
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        match (socket.connect((far, 9)), leaves(far.parse().unwrap())) {
            (Ok(()), Ok(leaves_here)) => {
                assert!(leaves_here, "{far}");
                assert!(!leaves(socket.local_addr().unwrap().ip()).unwrap());
            }
            (Err(error), Err(told)) => assert_eq!(error.raw_os_error(), told.raw_os_error()),
            (connected, told) => panic!("{connected:?} and {told:?}"),
        }
    }

    #[test]
    fn a_question_is_as_long_as_it_says() {
        for address in ["1.2.3.4", "2001:db8::1"] {
            let bytes = question(address.parse().unwrap());
            assert_eq!(usize::try_from(u32::from_ne_bytes(bytes[..4].try_into().unwrap())).unwrap(), bytes.len());
            assert_eq!(usize::from(u16::from_ne_bytes([bytes[28], bytes[29]])), bytes.len() - 28);
        }
    }

    #[test]
    fn an_answer_that_is_none_is_an_error() {
        for bytes in [&[][..], &[0; 16], &[9; 40]] {
            assert!(answer(bytes).is_err());
        }
        let mut refused = [0; 36];
        refused[4] = 2;
        refused[16..20].copy_from_slice(&(-113i32).to_ne_bytes());
        assert_eq!(answer(&refused).unwrap_err().raw_os_error(), Some(113));
    }
}
