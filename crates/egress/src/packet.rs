//! Packets, as they come out of a session's device and go in.

use std::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Packet, Ipv4Repr, TcpPacket, UDP_HEADER_LEN, UdpPacket,
        UdpRepr,
    },
};

/// Longest packet. What the kernel gives a device that nobody said anything of.
pub(crate) const MTU: usize = 1500;
/// The program, as it sees itself, and whom it asks for names and takes for its way out (crates/sandbox/src/network.rs).
pub(crate) const SANDBOX: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 2);
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);
const HOP_LIMIT: u8 = 64;
/// [`UDP_HEADER_LEN`], as a datagram has it.
const HEAD_LEN: u16 = 8;

/// Whose packet it is: the program's port, and whom it speaks with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) from: u16,
    pub(crate) to: SocketAddrV4,
}

/// What a program has sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet<'a> {
    /// A segment of TCP, and whether it asks for a connection.
    Segment(Key, bool),
    /// A datagram, and what is in it.
    Datagram(Key, &'a [u8]),
}

/// Reads a packet. `None`: it is nothing that we carry (IPv6, another protocol, a fragment), or no packet at all.
pub(crate) fn read(bytes: &[u8]) -> Option<Packet<'_>> {
    let packet = Ipv4Packet::new_checked(bytes).ok()?;
    let is_whole = packet.version() == 4 && !packet.more_frags() && packet.frag_offset() == 0;
    if !is_whole || packet.src_addr() != SANDBOX || !packet.verify_checksum() {
        return None;
    }
    let to = |port| SocketAddrV4::new(packet.dst_addr(), port);
    match packet.next_header() {
        IpProtocol::Tcp => {
            let segment = TcpPacket::new_checked(packet.payload()).ok()?;
            let key = Key { from: segment.src_port(), to: to(segment.dst_port()) };
            Some(Packet::Segment(key, segment.syn() && !segment.ack() && !segment.rst()))
        }
        IpProtocol::Udp => {
            let begin = usize::from(packet.header_len());
            let datagram = UdpPacket::new_checked(bytes.get(begin..usize::from(packet.total_len()))?).ok()?;
            let key = Key { from: datagram.src_port(), to: to(datagram.dst_port()) };
            // Of the packet's own bytes, so that they live as long as it.
            let payload = bytes.get(begin + UDP_HEADER_LEN..begin + usize::from(datagram.len()))?;
            Some(Packet::Datagram(key, payload))
        }
        _ => None,
    }
}

/// The datagram that brings an answer to the program; `None` where it is too long for one packet.
pub(crate) fn answer(key: Key, payload: &[u8]) -> Option<Vec<u8>> {
    let udp = UdpRepr { src_port: key.to.port(), dst_port: key.from };
    let len = udp.header_len() + payload.len();
    let (mut bytes, begin) = to_program(*key.to.ip(), IpProtocol::Udp, len)?;
    let (from, to) = ((*key.to.ip()).into(), SANDBOX.into());
    let checksums = ChecksumCapabilities::default();
    let mut datagram = UdpPacket::new_unchecked(&mut bytes[begin..]);
    udp.emit(&mut datagram, &from, &to, payload.len(), |room| room.copy_from_slice(payload), &checksums);
    Some(bytes)
}

/// Why a datagram does not get where it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreachable {
    /// Nobody is there.
    Port,
    /// It may not.
    Prohibited,
}

/// Tells the program so, as a router or the far end would.
pub(crate) fn unreachable(key: Key, why: Unreachable) -> Option<Vec<u8>> {
    let reason = match why {
        Unreachable::Port => Icmpv4DstUnreachable::PortUnreachable,
        Unreachable::Prohibited => Icmpv4DstUnreachable::CommProhibited,
    };
    // What it is about: the head of what was sent.
    let mut head = [0; UDP_HEADER_LEN];
    let mut datagram = UdpPacket::new_unchecked(&mut head[..]);
    datagram.set_src_port(key.from);
    datagram.set_dst_port(key.to.port());
    datagram.set_len(HEAD_LEN);
    let header = Ipv4Repr {
        src_addr: SANDBOX,
        dst_addr: *key.to.ip(),
        next_header: IpProtocol::Udp,
        payload_len: UDP_HEADER_LEN,
        hop_limit: HOP_LIMIT,
    };
    let icmp = Icmpv4Repr::DstUnreachable { reason, header, data: &head };
    let (mut bytes, begin) = to_program(GATEWAY, IpProtocol::Icmp, icmp.buffer_len())?;
    icmp.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes[begin..]), &ChecksumCapabilities::default());
    Some(bytes)
}

/// A packet for the program with room for its payload, and where that begins.
fn to_program(from: Ipv4Addr, next_header: IpProtocol, payload_len: usize) -> Option<(Vec<u8>, usize)> {
    let ip = Ipv4Repr { src_addr: from, dst_addr: SANDBOX, next_header, payload_len, hop_limit: HOP_LIMIT };
    let begin = ip.buffer_len();
    if begin + payload_len > MTU {
        return None;
    }
    let mut bytes = vec![0; begin + payload_len];
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[..]), &ChecksumCapabilities::default());
    Some((bytes, begin))
}

/// Packets as programs send them.
#[cfg(test)]
pub(crate) mod sent {
    use smoltcp::wire::{TcpControl, TcpRepr, TcpSeqNumber};

    use super::*;

    /// One with this payload.
    pub(crate) fn packet(from: Ipv4Addr, to: Ipv4Addr, next_header: IpProtocol, payload: &[u8]) -> Vec<u8> {
        let ip = Ipv4Repr { src_addr: from, dst_addr: to, next_header, payload_len: payload.len(), hop_limit: 64 };
        let mut bytes = vec![0; ip.buffer_len()];
        ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[..]), &ChecksumCapabilities::default());
        bytes.extend(payload);
        bytes
    }

    /// A segment.
    pub(crate) fn segment(key: Key, control: TcpControl, numbers: (i32, Option<i32>), payload: &[u8]) -> Vec<u8> {
        let tcp = TcpRepr {
            src_port: key.from,
            dst_port: key.to.port(),
            control,
            seq_number: TcpSeqNumber(numbers.0),
            ack_number: numbers.1.map(TcpSeqNumber),
            window_len: 1000,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload,
        };
        let mut bytes = vec![0; tcp.buffer_len()];
        let packet = &mut TcpPacket::new_unchecked(&mut bytes[..]);
        tcp.emit(packet, &SANDBOX.into(), &(*key.to.ip()).into(), &ChecksumCapabilities::default());
        bytes
    }

    /// A packet with a segment.
    pub(crate) fn stream(key: Key, control: TcpControl, numbers: (i32, Option<i32>), payload: &[u8]) -> Vec<u8> {
        packet(SANDBOX, *key.to.ip(), IpProtocol::Tcp, &segment(key, control, numbers, payload))
    }

    /// A packet with a datagram.
    pub(crate) fn datagram(key: Key, payload: &[u8]) -> Vec<u8> {
        let len = UDP_HEADER_LEN + payload.len();
        let mut bytes = vec![0; len];
        let mut udp = UdpPacket::new_unchecked(&mut bytes[..]);
        udp.set_src_port(key.from);
        udp.set_dst_port(key.to.port());
        udp.set_len(u16::try_from(len).unwrap());
        udp.payload_mut().copy_from_slice(payload);
        udp.fill_checksum(&SANDBOX.into(), &(*key.to.ip()).into());
        packet(SANDBOX, *key.to.ip(), IpProtocol::Udp, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smoltcp::wire::TcpControl;

    use super::*;

    const KEY: Key = Key { from: 40_000, to: SocketAddrV4::new(Ipv4Addr::new(1, 2, 3, 4), 443) };

    #[test]
    fn a_connection_begins_with_a_segment_that_only_asks() {
        for (control, ack, begins) in
            [(TcpControl::Syn, false, true), (TcpControl::Syn, true, false), (TcpControl::Rst, false, false)]
        {
            let bytes = sent::stream(KEY, control, (7, ack.then_some(8)), &[]);
            assert_eq!(read(&bytes), Some(Packet::Segment(KEY, begins)), "{control:?} {ack}");
        }
    }

    #[test]
    fn what_we_do_not_carry_is_nothing() {
        let (syn, to) = (sent::segment(KEY, TcpControl::Syn, (7, None), &[]), *KEY.to.ip());
        let whole = sent::packet(SANDBOX, to, IpProtocol::Tcp, &syn);
        let changed = |at: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
            packet.fill_checksum();
            bytes
        };
        let cases = [
            ("another's address", sent::packet(GATEWAY, to, IpProtocol::Tcp, &syn)),
            ("another protocol", sent::packet(SANDBOX, to, IpProtocol::Icmp, &syn)),
            ("a first fragment", changed(6, 0x20)),
            ("a later fragment", changed(7, 1)),
            ("version 6", changed(0, 0x65)),
            ("half a packet", whole[..30].to_vec()),
            ("nothing", Vec::new()),
        ];
        for (what, bytes) in cases {
            assert_eq!(read(&bytes), None, "{what}");
        }
        let mut wrong_sum = whole;
        wrong_sum[10] ^= 1;
        assert_eq!(read(&wrong_sum), None);
    }

    #[test]
    fn an_answer_is_a_datagram_from_whom_was_asked() {
        let bytes = answer(KEY, b"what was asked for").unwrap();
        let packet = Ipv4Packet::new_checked(&bytes[..]).unwrap();
        assert!(packet.verify_checksum());
        assert_eq!((packet.src_addr(), packet.dst_addr()), (*KEY.to.ip(), SANDBOX));
        let datagram = UdpPacket::new_checked(packet.payload()).unwrap();
        assert!(datagram.verify_checksum(&packet.src_addr().into(), &packet.dst_addr().into()));
        assert_eq!((datagram.src_port(), datagram.dst_port(), datagram.payload()), (443, 40_000, &b"what was asked for"[..]));
        assert!(answer(KEY, &[0; MTU - 28]).is_some() && answer(KEY, &[0; MTU - 27]).is_none());
    }

    #[test]
    fn a_datagram_that_gets_nowhere_is_answered_with_its_head() {
        let bytes = unreachable(KEY, Unreachable::Prohibited).unwrap();
        let packet = Ipv4Packet::new_checked(&bytes[..]).unwrap();
        assert_eq!((packet.src_addr(), packet.dst_addr()), (GATEWAY, SANDBOX));
        let icmp = Icmpv4Packet::new_checked(packet.payload()).unwrap();
        assert!(icmp.verify_checksum());
        let Ok(Icmpv4Repr::DstUnreachable { reason, header, data }) = Icmpv4Repr::parse(&icmp, &ChecksumCapabilities::default())
        else {
            panic!("{icmp:?}");
        };
        assert_eq!((reason, header.dst_addr), (Icmpv4DstUnreachable::CommProhibited, *KEY.to.ip()));
        assert_eq!(UdpPacket::new_checked(data).map(|udp| (udp.src_port(), udp.dst_port())), Ok((40_000, 443)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_packet_or_none(mut bytes in proptest::collection::vec(any::<u8>(), 0..100), plausible in any::<bool>()) {
            if plausible && bytes.len() > 20 {
                (bytes[0], bytes[9]) = (0x45, if bytes[9] & 1 == 0 { 6 } else { 17 });
                let len = u16::try_from(bytes.len()).unwrap();
                let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
                packet.set_total_len(len);
                packet.set_src_addr(SANDBOX);
                packet.clear_flags();
                packet.set_frag_offset(0);
                packet.fill_checksum();
            }
            let len = bytes.len();
            if let Some(Packet::Datagram(_, payload)) = read(&bytes) {
                prop_assert!(payload.len() + 28 <= len);
            }
        }
    }
}
